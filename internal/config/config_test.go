package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"gin-sse/internal/config"
)

func TestWithoutSettingsEachHasItsDefault(t *testing.T) {
	t.Parallel()
	want := config.Config{
		Port: 3000, TickInterval: time.Second, Keepalive: 15 * time.Second, MaxEventBytes: 65000, History: 1000, HistoryBytes: 64 << 20,
		PublicTopics: []string{"*"}, LogFormat: "text", HTTP2: true, NATSStream: "sse", NATSReplicas: 1, GinMode: "debug",
	}
	empty := map[string]string{}
	for field := range reflect.TypeFor[config.Config]().Fields() {
		empty[field.Tag.Get("env")] = ""
	}
	delete(empty, "PUBLIC_TOPICS") // whose default is not what its empty value seems to say
	for name, environment := range map[string]map[string]string{"unset": nil, "empty": empty} {
		if got, err := config.Load(environment); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v and error %v, want %+v", name, got, err, want)
		}
	}
}

func TestEachSettingIsRead(t *testing.T) {
	t.Parallel()
	most := uint64(1<<64 - 1)
	const key = "a key of at least 32 bytes, with ="
	creds := filepath.Join(t.TempDir(), "nats.creds")
	if err := os.WriteFile(creds, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := config.Load(map[string]string{
		"HOST": "127.0.0.1", "PORT": "65535", "TICK_INTERVAL": "10ms", "KEEPALIVE": "1s", "PUBLISH_TOKEN": "s3cret!~", "MAX_EVENT_BYTES": "1",
		"HISTORY": "0", "HISTORY_BYTES": "0", "SUBSCRIBE_KEY": key, "MAX_CLIENTS": "18446744073709551615", "METRICS": "true", "ALLOWED_ORIGINS": "http://localhost:5173, https://example.com,",
		"TRUSTED_PROXIES": "10.0.0.0/8,::1", "TLS_CERT_FILE": "cert.pem", "TLS_KEY_FILE": "key.pem", "HTTP2": "false",
		"NATS_URL": "nats://a:4222,tls://user:password@b", "NATS_STREAM": "a-B_9", "NATS_REPLICAS": "5", "NATS_CREDS": creds,
		"PUBLIC_TOPICS": "news, builds/*", "SHUTDOWN_DELAY": "10s", "LOG_FORMAT": "json",
		"TZ": ":Europe/Berlin", "GIN_MODE": "release", "UNKNOWN": "x",
	})
	want := config.Config{
		Host: "127.0.0.1", Port: 65535, TickInterval: 10 * time.Millisecond, Keepalive: time.Second, PublishToken: "s3cret!~", MaxEventBytes: 1,
		SubscribeKey: key, MaxClients: &most, Metrics: true, AllowedOrigins: []string{"http://localhost:5173", "https://example.com"},
		TrustedProxies: []string{"10.0.0.0/8", "::1"}, TLSCertFile: "cert.pem", TLSKeyFile: "key.pem",
		NATSURL: "nats://a:4222,tls://user:password@b", NATSStream: "a-B_9", NATSReplicas: 5, NATSCreds: creds,
		PublicTopics: []string{"news", "builds/*"}, ShutdownDelay: 10 * time.Second, LogFormat: "json",
		TZ: ":Europe/Berlin", GinMode: "release",
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v and error %v, want %+v", got, err, want)
	}
}

func TestGoodValuesAreTaken(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{
		"PORT=0", "TICK_INTERVAL=0", "TICK_INTERVAL=1h", "TZ=UTC", "TZ=Asia/Kolkata", "TZ=Local",
		"ALLOWED_ORIGINS=*", "ALLOWED_ORIGINS=https://[::1]:8443", "TRUSTED_PROXIES=2001:db8::/32", "METRICS=1", "HTTP2=0",
	} {
		name, value, _ := strings.Cut(setting, "=")
		if _, err := config.Load(map[string]string{name: value}); err != nil {
			t.Errorf("%s: %v", setting, err)
		}
	}
}

func TestMessagesAreKeptOnDiskOrInNATS(t *testing.T) {
	t.Parallel()
	_, err := config.Load(map[string]string{"DATA_DIR": "/data", "NATS_URL": "nats://user:password@localhost"})
	if want := `DATA_DIR="/data" and NATS_URL are both set: NATS keeps the messages then, so leave one of them out`; err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %s", err, want)
	}
}

func TestASecretIsInTheEnvironmentOrInAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secrets")
	long := strings.Repeat("k", 32)
	for _, name := range []string{"PUBLISH_TOKEN", "SUBSCRIBE_KEY"} {
		_, err := config.Load(map[string]string{name: long, name + "_FILE": path})
		if want := name + " and " + name + "_FILE are both set: leave one of them out"; err == nil || err.Error() != want {
			t.Errorf("the error is %v, want %s", err, want)
		}
		for content, want := range map[string]string{
			"":                       "the file has no secret: put one on each line",
			"\n\n":                   "the file has no secret: put one on each line",
			long + "\nsp ace\n":      "line 2: ",
			long + "\r\n":            "line 1: ",
			long + "\n\n" + long:     "",
			long + "2\n" + long + "": "",
		} {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := config.Load(map[string]string{name + "_FILE": path})
			if err != nil {
				t.Fatal(err)
			}
			_, err = cfg.Secrets()
			fails := want != ""
			want = fmt.Sprintf("%s_FILE=%q cannot be used: %s", name, path, want)
			if (err != nil) != fails || fails && !strings.HasPrefix(err.Error(), want) || fails && strings.Contains(err.Error(), long) {
				t.Errorf("%s with %q: error %v, want %s", name, content, err, want)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		cfg := config.Config{PublishTokenFile: path, SubscribeKeyFile: path}
		if _, err := cfg.Secrets(); err == nil || !strings.Contains(err.Error(), "no such file") || strings.Contains(err.Error(), "\n") {
			t.Errorf("without the file: error %v", err)
		}
	}
}

func TestBadValueIsOneLineThatNamesTheVariableTheValueAndWhatItAccepts(t *testing.T) {
	t.Parallel()
	const (
		port     = "a port number, 0 to 65535; 0 takes any free port"
		interval = "0 for no ticks, or a duration of at least 10ms such as 1s"
		comments = "how often a silent stream gets a comment, a duration of at least 1s such as 15s"
		clients  = "how many streams may be open at the same time, 0 for any number; unset for as many as the limits of open files and of memory hold"
		networks = "addresses or networks such as 10.0.0.0/8, separated by commas"
		metrics  = "true for the page /metrics, or false"
		http2    = "true, or false for HTTP/1.1 alone"
		size     = "a number of bytes, 1 or more"
		messages = "how many messages are kept of each topic, 0 or more"
		all      = "a number of bytes for the messages kept of all topics together, 0 or more"
		signing  = "the secret that signs the tokens for private topics, at least 32 bytes without white space at its ends; empty closes private topics"
		secret   = "the secret that publishers send: letters, digits and signs without spaces; empty turns publishing off"
		servers  = "addresses such as nats://localhost:4222 or tls://user:password@nats.example.com, separated by commas"
		stream   = "a name of letters, digits, hyphens and underscores"
		replicas = "on how many NATS servers each message is stored, 1 to 5"
		zone     = "a time zone such as Europe/Berlin or UTC; empty for the machine's"
		public   = "topics that anyone may follow, such as news,builds/*, separated by commas; * for all. Topics below private/ never are among them"
		delay    = "how long everything goes on after the signal to stop, while /readyz answers 503: a duration such as 10s, or 0"
		logs     = "text, or json for a JSON object on each line"
		mode     = "debug, where an edit in public/ or templates/ shows on the next refresh, or release"
	)
	for _, test := range []struct{ setting, accepts string }{
		{"PORT=abc", port},
		{"PORT=-1", port},
		{"PORT=65536", port},
		{"PORT=3 000", port},
		{"TICK_INTERVAL=fast", interval},
		{"TICK_INTERVAL=1", interval},
		{"TICK_INTERVAL=-1s", interval},
		{"TICK_INTERVAL=1ns", interval},
		{"KEEPALIVE=0", comments},
		{"KEEPALIVE=999ms", comments},
		{"KEEPALIVE=15", comments},
		{"KEEPALIVE=-15s", comments},
		{"MAX_CLIENTS=-1", clients},
		{"MAX_CLIENTS=many", clients},
		{"TRUSTED_PROXIES=10.0.0.0/33", networks},
		{"TRUSTED_PROXIES=nginx", networks},
		{"METRICS=yes", metrics},
		{"HTTP2=off", http2},
		{"HISTORY=-1", messages},
		{"HISTORY=1e3", messages},
		{"HISTORY_BYTES=-1", all},
		{"HISTORY_BYTES=64M", all},
		{"SUBSCRIBE_KEY=short", signing},
		{"MAX_EVENT_BYTES=0", size},
		{"MAX_EVENT_BYTES=64k", size},
		{"PUBLISH_TOKEN=a secret", secret},
		{"PUBLISH_TOKEN=sécret", secret},
		{"NATS_URL=nats://user:pass word@localhost:4222", servers},
		{"NATS_URL=http://localhost:4222", servers},
		{"NATS_URL=nats://a,,nats://b", servers},
		{"NATS_STREAM=a.b", stream},
		{"NATS_STREAM=>", stream},
		{"NATS_STREAM=" + strings.Repeat("x", 65), stream},
		{"NATS_REPLICAS=0", replicas},
		{"NATS_REPLICAS=6", replicas},
		{"NATS_CREDS=/none.creds", "the path of a credentials file that can be read"},
		{"TLS_CERT_FILE=cert.pem", ""},
		{"TLS_KEY_FILE=key.pem", ""},
		{"TZ=Mars/Olympus", zone},
		{"TZ=../../etc/passwd", zone},
		{"TZ=/none", zone},
		{"PUBLIC_TOPICS=", public},
		{"PUBLIC_TOPICS=,", public},
		{"PUBLIC_TOPICS=news/", public},
		{"PUBLIC_TOPICS=news,private/a", public},
		{"PUBLIC_TOPICS=private/*", public},
		{"SHUTDOWN_DELAY=-1s", delay},
		{"SHUTDOWN_DELAY=10", delay},
		{"LOG_FORMAT=JSON", logs},
		{"GIN_MODE=production", mode},
		{"GIN_MODE=Release", mode},
		{"GIN_MODE=test", mode},
	} {
		name, value, _ := strings.Cut(test.setting, "=")
		_, err := config.Load(map[string]string{name: value})
		switch {
		case err == nil:
			t.Errorf("%s is taken", test.setting)
			continue
		case strings.Contains(err.Error(), "\n"):
			t.Errorf("%s: more than one line: %q", test.setting, err)
		}
		switch name {
		case "TLS_CERT_FILE": // the other one is missing
			if want := `TLS_KEY_FILE="" cannot be used: it accepts the private key's PEM file; it goes with TLS_CERT_FILE`; err.Error() != want {
				t.Errorf("%s: %q, want %q", test.setting, err, want)
			}
		case "TLS_KEY_FILE":
			if want := `TLS_CERT_FILE="" cannot be used: it accepts the certificate's PEM file; it goes with TLS_KEY_FILE`; err.Error() != want {
				t.Errorf("%s: %q, want %q", test.setting, err, want)
			}
		case "PUBLISH_TOKEN", "SUBSCRIBE_KEY", "NATS_URL": // secrets
			if want := name + " cannot be used: it accepts " + test.accepts; err.Error() != want {
				t.Errorf("%s: %q, want %q", test.setting, err, want)
			}
		default:
			if want := name + `="` + value + `" cannot be used: it accepts ` + test.accepts; err.Error() != want {
				t.Errorf("%s: %q, want %q", test.setting, err, want)
			}
		}
	}
}

func TestPrivateTopicsForAllOriginsAreAWarning(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		origins []string
		key     string
		want    int
	}{
		{[]string{"*"}, "key", 1},
		{[]string{"*"}, "", 0},
		{[]string{"https://example.com"}, "key", 0},
	} {
		if got := (config.Config{AllowedOrigins: test.origins, SubscribeKey: test.key}).Warnings(nil); len(got) != test.want {
			t.Errorf("ALLOWED_ORIGINS=%q, SUBSCRIBE_KEY=%q: %q, want %d warnings", test.origins, test.key, got, test.want)
		}
	}
}
