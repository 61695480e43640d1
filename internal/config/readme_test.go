package config

import (
	"maps"
	"os"
	"reflect"
	"regexp"
	"testing"
)

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
