// Package config reads the settings: environment variables, parsed once and checked before anything starts.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"gin-sse/internal/cluster"
	"gin-sse/internal/event"
	"gin-sse/internal/ginmode"
	"gin-sse/internal/token"
)

// Environment returns the variables that this process was started with.
func Environment() map[string]string {
	environment := env.ToMap(os.Environ())
	if mode, ok := ginmode.Given(); ok {
		environment["GIN_MODE"] = mode
	}
	return environment
}

// Config has a field for each setting. Its tags are the variable, the default, and what Load accepts.
// Load and Usage both work from these tags. A secret's value appears in no error.
type Config struct {
	Host             string        `env:"HOST" accepts:"the address to listen on, such as 127.0.0.1; empty for all addresses"`
	Port             uint16        `env:"PORT" envDefault:"3000" accepts:"a port number, 0 to 65535; 0 takes any free port"`
	TickInterval     time.Duration `env:"TICK_INTERVAL" envDefault:"1s" accepts:"0 for no ticks, or a duration of at least 10ms such as 1s"`
	Keepalive        time.Duration `env:"KEEPALIVE" envDefault:"15s" accepts:"how often a silent stream gets a comment, a duration of at least 1s such as 15s"`
	PublishToken     string        `env:"PUBLISH_TOKEN" accepts:"the secret that publishers send: letters, digits and signs without spaces; empty turns publishing off" secret:"true"`
	PublishTokenFile string        `env:"PUBLISH_TOKEN_FILE" accepts:"a file with a PUBLISH_TOKEN on each line, all of which are accepted; it is read again when it changes" path:"true"`
	MaxEventBytes    int64         `env:"MAX_EVENT_BYTES" envDefault:"65000" accepts:"a number of bytes, 1 or more"`
	History          int           `env:"HISTORY" envDefault:"1000" accepts:"how many messages are kept of each topic, 0 or more"`
	HistoryBytes     int64         `env:"HISTORY_BYTES" envDefault:"67108864" accepts:"a number of bytes for the messages kept of all topics together, 0 or more"`
	DataDir          string        `env:"DATA_DIR" accepts:"a directory that keeps messages over a restart, made if it is missing; empty keeps them in memory. It does not go with NATS_URL" path:"true"`
	SubscribeKey     string        `env:"SUBSCRIBE_KEY" accepts:"the secret that signs the tokens for private topics, at least 32 bytes without white space at its ends; empty closes private topics" secret:"true"`
	SubscribeKeyFile string        `env:"SUBSCRIBE_KEY_FILE" accepts:"a file with a SUBSCRIBE_KEY on each line, all of which are accepted, and the first of which signs; it is read again when it changes" path:"true"`
	PublicTopics     list          `env:"PUBLIC_TOPICS" envDefault:"*" accepts:"topics that anyone may follow, such as news,builds/*, separated by commas; * for all. Topics below private/ never are among them"`
	MaxClients       *uint64       `env:"MAX_CLIENTS" accepts:"how many streams may be open at the same time, 0 for any number; unset for as many as the limits of open files and of memory hold"`
	ShutdownDelay    time.Duration `env:"SHUTDOWN_DELAY" envDefault:"0" accepts:"how long everything goes on after the signal to stop, while /readyz answers 503: a duration such as 10s, or 0"`
	LogFormat        string        `env:"LOG_FORMAT" envDefault:"text" accepts:"text, or json for a JSON object on each line"`
	Metrics          bool          `env:"METRICS" envDefault:"false" accepts:"true for the page /metrics, or false"`
	AllowedOrigins   list          `env:"ALLOWED_ORIGINS" accepts:"origins as browsers send them, such as https://example.com, http://localhost:5173 or capacitor://localhost, without a path, separated by commas; or * alone for all"`
	TrustedProxies   list          `env:"TRUSTED_PROXIES" accepts:"addresses or networks such as 10.0.0.0/8, separated by commas"`
	TLSCertFile      string        `env:"TLS_CERT_FILE" accepts:"the certificate's PEM file; it goes with TLS_KEY_FILE" path:"true"`
	TLSKeyFile       string        `env:"TLS_KEY_FILE" accepts:"the private key's PEM file; it goes with TLS_CERT_FILE" path:"true"`
	HTTP2            bool          `env:"HTTP2" envDefault:"true" accepts:"true, or false for HTTP/1.1 alone"`
	NATSURL          string        `env:"NATS_URL" accepts:"addresses such as nats://localhost:4222 or tls://user:password@nats.example.com, separated by commas" secret:"true"`
	NATSStream       string        `env:"NATS_STREAM" envDefault:"sse" accepts:"a name of letters, digits, hyphens and underscores"`
	NATSReplicas     int           `env:"NATS_REPLICAS" envDefault:"1" accepts:"on how many NATS servers each message is stored, 1 to 5"`
	NATSCreds        string        `env:"NATS_CREDS" accepts:"the path of a credentials file that can be read" path:"true"`
	TZ               string        `env:"TZ" accepts:"a time zone such as Europe/Berlin or UTC; empty for the machine's"`
	GinMode          string        `env:"GIN_MODE" envDefault:"debug" accepts:"debug, where an edit in public/ or templates/ shows on the next refresh, or release"`
}

// list is values separated by commas, with or without spaces.
type list []string

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *list) UnmarshalText(text []byte) error {
	for value := range strings.SplitSeq(string(text), ",") {
		if value = strings.TrimSpace(value); value != "" {
			*l = append(*l, value)
		}
	}
	return nil
}

// Load parses and checks the environment, which maps the variables that are set to their values. An error is
// one line that names the variable, its value and what it accepts.
func Load(environment map[string]string) (Config, error) {
	if err := checkPasted(environment); err != nil {
		return Config{}, err
	}
	cfg, err := env.ParseAsWithOptions[Config](env.Options{Environment: environment})
	var unreadable env.ParseError
	if errors.As(err, &unreadable) {
		return cfg, unusable(unreadable.Name, environment)
	}
	if err != nil {
		return cfg, fmt.Errorf("read the environment: %w", err)
	}
	public, isSet := environment["PUBLIC_TOPICS"]
	for _, check := range []struct {
		field string
		ok    bool
	}{
		{"TrustedProxies", areNetworks(cfg.TrustedProxies)},
		{"TLSCertFile", cfg.TLSCertFile != "" || cfg.TLSKeyFile == ""},
		{"TLSKeyFile", cfg.TLSKeyFile != "" || cfg.TLSCertFile == ""},
		{"MaxEventBytes", cfg.MaxEventBytes >= 1},
		{"History", cfg.History >= 0},
		{"HistoryBytes", cfg.HistoryBytes >= 0},
		{"PublicTopics", len(cfg.PublicTopics) > 0 && (public != "" || !isSet) && event.Public(cfg.PublicTopics).Check() == nil},
		{"ShutdownDelay", cfg.ShutdownDelay >= 0},
		{"LogFormat", cfg.LogFormat == "text" || cfg.LogFormat == "json"},
		{"SubscribeKey", cfg.SubscribeKey == "" || token.CheckKey([]byte(cfg.SubscribeKey)) == nil},
		{"NATSURL", cfg.NATSURL == "" || cluster.ValidURL(cfg.NATSURL)},
		{"NATSStream", isStreamName(cfg.NATSStream)},
		{"NATSReplicas", cfg.NATSReplicas >= 1 && cfg.NATSReplicas <= 5},
		{"NATSCreds", cfg.NATSCreds == "" || isReadable(cfg.NATSCreds)},
		{"PublishToken", checkPublishToken([]byte(cfg.PublishToken)) == nil},
		{"TickInterval", cfg.TickInterval == 0 || cfg.TickInterval >= 10*time.Millisecond},
		{"Keepalive", cfg.Keepalive >= time.Second},
		{"TZ", isZone(cfg.TZ)},
		{"GinMode", ginmode.Valid(cfg.GinMode)},
	} {
		if !check.ok {
			return cfg, unusable(check.field, environment)
		}
	}
	if err := checkOrigins(cfg.AllowedOrigins); err != nil {
		return cfg, fmt.Errorf("%w. Here %w", unusable("AllowedOrigins", environment), err)
	}
	if cfg.DataDir != "" && cfg.NATSURL != "" {
		return cfg, fmt.Errorf("DATA_DIR=%q and NATS_URL are both set: NATS keeps the messages then, so leave one of them out", cfg.DataDir)
	}
	for name, both := range map[string]bool{
		"PUBLISH_TOKEN": cfg.PublishToken != "" && cfg.PublishTokenFile != "",
		"SUBSCRIBE_KEY": cfg.SubscribeKey != "" && cfg.SubscribeKeyFile != "",
	} {
		if both {
			return cfg, fmt.Errorf("%s and %[1]s_FILE are both set: leave one of them out", name)
		}
	}
	return cfg, nil
}

// unusable returns the error for a field whose variable has a value that cannot be used.
func unusable(name string, environment map[string]string) error {
	field, _ := reflect.TypeFor[Config]().FieldByName(name)
	return refusal(field, environment, "accepts "+field.Tag.Get("accepts"))
}

// refusal returns an error that says what is wrong with the value of a field, and repeats the value unless it is secret.
func refusal(field reflect.StructField, environment map[string]string, problem string) error {
	variable := field.Tag.Get("env")
	if field.Tag.Get("secret") != "" {
		return fmt.Errorf("%s cannot be used: it %s", variable, problem)
	}
	return fmt.Errorf("%s=%q cannot be used: it %s", variable, environment[variable], problem)
}

func checkPublishToken(token []byte) error {
	if bytes.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("a PUBLISH_TOKEN takes letters, digits and signs without spaces")
	}
	return nil
}

func areNetworks(networks []string) bool {
	for _, network := range networks {
		if _, _, err := net.ParseCIDR(network); err != nil && net.ParseIP(network) == nil {
			return false
		}
	}
	return true
}

// isStreamName reports whether NATS accepts the name for a stream and for a subject.
func isStreamName(name string) bool {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	return name != "" && len(name) <= 64 && strings.Trim(name, plain) == ""
}

func isReadable(file string) bool {
	_, err := os.ReadFile(file)
	return err == nil
}

// isZone reports whether name is a time zone, or the path of a file that has one. Without this check Go would
// silently use UTC for any other name.
func isZone(name string) bool {
	name = strings.TrimPrefix(name, ":")
	if strings.HasPrefix(name, "/") {
		return isReadable(name)
	}
	_, err := time.LoadLocation(name)
	return err == nil
}
