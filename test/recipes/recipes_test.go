// Package recipes checks each configuration file of docs with the program that it is for, or, where that needs a cluster,
// reads it as strictly as it can.
package recipes

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"gin-sse/test/internal/child"
	"gin-sse/test/internal/need"
	"gin-sse/test/internal/proxy"
)

func TestEachProxyAcceptsItsFiles(t *testing.T) {
	t.Parallel()
	addresses := []string{"127.0.0.1:3001", "127.0.0.1:3002", "127.0.0.1:3003"}
	nginx, haproxy := []string{"-e", "stderr", "-p", ".", "-t", "-c"}, []string{"-c", "-f"}
	proxy.Nginx.Check(t, nginx...)
	proxy.NginxReplicas(addresses...).Check(t, nginx...)
	proxy.HAProxy.Check(t, haproxy...)
	proxy.HAProxyReplicas(addresses...).Check(t, haproxy...)
	proxy.Caddy.Check(t, "validate", "--adapter", "caddyfile", "--config")
}

// read returns a file, whose path is relative to the folder of the product.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// check runs a program with a file, and fails the test if that does not accept it.
func check(t *testing.T, program, file, text string, args ...string) {
	t.Helper()
	need.Program(t, program)
	path := filepath.Join(t.TempDir(), file)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := child.Command(t.Context(), program, append(args, path)...).CombinedOutput(); err != nil || bytes.Contains(out, []byte(path)) && program == "systemd-analyze" {
		t.Errorf("%s: %v\n%s", program, err, out)
	}
}

func TestSystemdAcceptsTheUnit(t *testing.T) {
	t.Parallel()
	need.Program(t, "systemd-analyze")
	executable, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	unit := read(t, "docs/gin-sse.service")
	if strings.Count(unit, "/usr/local/bin/gin-sse") != 1 {
		t.Fatal("the unit does not start /usr/local/bin/gin-sse")
	}
	check(t, "systemd-analyze", "gin-sse.service", strings.Replace(unit, "/usr/local/bin/gin-sse", executable, 1), "verify")
	settings := names(t)
	for _, match := range regexp.MustCompile(`(?m)^Environment=([A-Z_]+)=`).FindAllStringSubmatch(unit, -1) {
		if !slices.Contains(settings, match[1]) {
			t.Errorf("%s is no setting", match[1])
		}
	}
}

func TestPrometheusAcceptsTheRules(t *testing.T) {
	t.Parallel()
	rules := read(t, "docs/alerts.yml")
	check(t, "promtool", "alerts.yml", rules, "check", "rules")
	operate := read(t, "docs/operate.md")
	for _, match := range regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(rules, -1) {
		if !strings.Contains(operate, "`"+match[1]+"`") {
			t.Errorf("operate.md does not say what to do about %s", match[1])
		}
	}
}

// names returns the names of all settings, which README lists.
func names(t *testing.T) (names []string) {
	t.Helper()
	for _, match := range regexp.MustCompile("(?m)^\\| `([A-Z0-9_]+)` \\|").FindAllStringSubmatch(read(t, "README.md"), -1) {
		names = append(names, match[1])
	}
	if len(names) < 20 {
		t.Fatalf("README.md lists only %q", names)
	}
	return names
}

func TestCompositionPassesEachSettingOnAndInsistsOnSecrets(t *testing.T) {
	t.Parallel()
	text := read(t, "compose.yaml")
	type service struct {
		ReadOnly bool `yaml:"read_only"`
		Logging  struct {
			Driver  string
			Options map[string]string
		}
		Environment map[string]*string
	}
	var composition struct {
		Services map[string]service
	}
	if err := yaml.Unmarshal([]byte(text), &composition); err != nil {
		t.Fatal(err)
	}
	settings := names(t)
	for _, name := range []string{"app1", "app2", "app3"} {
		app := composition.Services[name]
		for variable := range app.Environment {
			if !slices.Contains(settings, variable) {
				t.Errorf("%s: %s is no setting", name, variable)
			}
		}
		if !app.ReadOnly {
			t.Errorf("%s may write", name)
		}
		for _, secret := range []string{"PUBLISH_TOKEN", "NATS_URL"} {
			if value := app.Environment[secret]; value == nil || !strings.Contains(*value, ":?") {
				t.Errorf("%s starts without a secret in %s", name, secret)
			}
		}
	}
	for name, s := range composition.Services {
		if s.Logging.Driver == "" || s.Logging.Options["max-size"] == "" {
			t.Errorf("the log of %s has no limit", name)
		}
	}
	if password := composition.Services["nats1"].Environment["NATS_PASSWORD"]; password == nil || *password != `"${NATS_PASSWORD}"` {
		t.Error("NATS would read some passwords as numbers")
	}
	for _, setting := range settings {
		if _, passed := composition.Services["app1"].Environment[setting]; !passed && !strings.Contains(text, setting) {
			t.Errorf("%s is neither passed on nor explained", setting)
		}
	}
}

func TestTheCompositionWithADiskHasSettingsThatExist(t *testing.T) {
	t.Parallel()
	_, text, _ := strings.Cut(read(t, "docs/disk.md"), "```yaml\n")
	text, _, _ = strings.Cut(text, "```\n")
	var composition struct {
		Services map[string]struct {
			Environment map[string]string
			Volumes     []string
			ReadOnly    bool `yaml:"read_only"`
		}
		Volumes map[string]any
	}
	if err := yaml.Unmarshal([]byte(text), &composition); err != nil {
		t.Fatal(err)
	}
	app := composition.Services["gin-sse"]
	for name := range app.Environment {
		if !slices.Contains(names(t), name) {
			t.Errorf("%s is no setting", name)
		}
	}
	volume, path, _ := strings.Cut(strings.Join(app.Volumes, ","), ":")
	if _, made := composition.Volumes[volume]; !made || path != app.Environment["DATA_DIR"] || !app.ReadOnly {
		t.Errorf("messages are kept in %q, and these volumes are there: %v", app.Environment["DATA_DIR"], app.Volumes)
	}
}

// There is no cluster here. This reads every object, and checks what the server relies on.
func TestKubernetesManifestsAskForTheProbesAndPassSettingsThatExist(t *testing.T) {
	t.Parallel()
	type probe struct {
		HTTPGet                         struct{ Path, Port string } `yaml:"httpGet"`
		PeriodSeconds, FailureThreshold int
	}
	type container struct {
		Name, Image string
		Ports       []struct {
			Name          string
			ContainerPort int `yaml:"containerPort"`
		}
		Env []struct {
			Name, Value string
			ValueFrom   any `yaml:"valueFrom"`
		}
		ReadinessProbe  probe `yaml:"readinessProbe"`
		LivenessProbe   probe `yaml:"livenessProbe"`
		Resources       any
		SecurityContext struct {
			AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
			ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
			Capabilities             any
		} `yaml:"securityContext"`
		VolumeMounts []struct {
			Name, MountPath string
			ReadOnly        bool
		} `yaml:"volumeMounts"`
	}
	kinds := map[string]int{}
	for document := range strings.SplitSeq(read(t, "docs/kubernetes.yaml"), "\n---\n") {
		var object struct {
			APIVersion string `yaml:"apiVersion"`
			Kind       string
			Metadata   any
			Spec       struct {
				Template struct {
					Spec struct {
						TerminationGracePeriodSeconds int `yaml:"terminationGracePeriodSeconds"`
						Containers                    []container
					}
				}
			}
		}
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		kinds[object.APIVersion+" "+object.Kind]++
		if object.Kind != "Deployment" {
			continue
		}
		pod := object.Spec.Template.Spec
		if len(pod.Containers) != 1 {
			t.Fatalf("%d containers", len(pod.Containers))
		}
		c := pod.Containers[0]
		if c.ReadinessProbe.HTTPGet.Path != "/readyz" || c.LivenessProbe.HTTPGet.Path != "/healthz" || c.ReadinessProbe.HTTPGet.Port != "http" ||
			len(c.Ports) != 1 || c.Ports[0].Name != "http" || c.Ports[0].ContainerPort != 3000 {
			t.Errorf("the probes are %+v and %+v, of the ports %+v", c.ReadinessProbe, c.LivenessProbe, c.Ports)
		}
		if !c.SecurityContext.ReadOnlyRootFilesystem || c.SecurityContext.AllowPrivilegeEscalation == nil || *c.SecurityContext.AllowPrivilegeEscalation {
			t.Errorf("the container may do too much: %+v", c.SecurityContext)
		}
		environment := map[string]string{}
		for _, variable := range c.Env {
			environment[variable.Name] = variable.Value
		}
		settings := names(t)
		for name := range maps.Keys(environment) {
			if !slices.Contains(settings, name) {
				t.Errorf("%s is no setting", name)
			}
		}
		grace := time.Duration(pod.TerminationGracePeriodSeconds) * time.Second
		if delay, err := time.ParseDuration(environment["SHUTDOWN_DELAY"]); err != nil || delay <= 0 || delay+5*time.Second > grace {
			t.Errorf("it is killed after %v, and drains for %v (%v)", grace, delay, err)
		}
	}
	for _, kind := range []string{"apps/v1 Deployment", "v1 Service", "policy/v1 PodDisruptionBudget"} {
		if kinds[kind] != 1 {
			t.Errorf("there are %v, want one %s", kinds, kind)
		}
	}
}
