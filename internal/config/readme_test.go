package config

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func TestTheDocumentationExplainsEverySetting(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for field := range reflect.TypeFor[Config]().Fields() {
		if name := field.Tag.Get("env"); !regexp.MustCompile(`\b` + name + `\b`).MatchString(all.String()) {
			t.Errorf("docs say nothing about %s", name)
		}
	}
}

func TestREADMEListsEverySettingWithItsDefault(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| `([A-Z0-9_]+)` \\| (?:`(.*?)` )?\\|")
	for _, match := range row.FindAllStringSubmatch(string(readme), -1) {
		listed[match[1]] = match[2]
	}
	settings := map[string]string{}
	for field := range reflect.TypeFor[Config]().Fields() {
		settings[field.Tag.Get("env")] = field.Tag.Get("envDefault")
	}
	if !maps.Equal(listed, settings) {
		t.Errorf("README.md lists %v, and the settings are %v", listed, settings)
	}
}
