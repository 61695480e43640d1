package config_test

import (
	"strings"
	"testing"

	"gin-sse/internal/config"
)

const key32 = "0123456789abcdef0123456789abcdef"

func TestWhatOnlyAShellRemovesOrReplacesIsRefusedWithWhatToWrite(t *testing.T) {
	t.Parallel()
	const full = "; write the path in full, such as /srv/gin-sse"
	for _, test := range []struct{ setting, want string }{
		{`DATA_DIR="./vol"`, `="\"./vol\"" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write DATA_DIR=./vol`},
		{`DATA_DIR='./vol'`, `="'./vol'" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write DATA_DIR=./vol`},
		{`DATA_DIR=“./vol”`, `="“./vol”" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write DATA_DIR=./vol`},
		{`DATA_DIR=./vol"`, `="./vol\"" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write DATA_DIR=./vol`},
		{`DATA_DIR=""`, `="\"\"" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write DATA_DIR=`},
		{"DATA_DIR=./vol ", `="./vol " cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write DATA_DIR=./vol`},
		{"DATA_DIR= ./vol", `=" ./vol" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write DATA_DIR=./vol`},
		{"DATA_DIR= ", `=" " cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write DATA_DIR=`},
		{"DATA_DIR=./vol\t", `="./vol\t" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write DATA_DIR=./vol`},
		{"DATA_DIR=./vol\n", `="./vol\n" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write DATA_DIR=./vol`},
		{"DATA_DIR=./vol\r", `="./vol\r" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write DATA_DIR=./vol`},
		{"DATA_DIR=\"./vol\"\r", `="\"./vol\"\r" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write DATA_DIR=./vol`},
		{"DATA_DIR=./vol \r", `="./vol \r" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write DATA_DIR=./vol`},
		{"DATA_DIR=\ufeff./vol", `="\ufeff./vol" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write DATA_DIR=./vol`},
		{"DATA_DIR=./vol\u00a0", `="./vol\u00a0" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write DATA_DIR=./vol`},
		{"DATA_DIR=/data # the volume", `="/data # the volume" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write DATA_DIR=/data`},
		{"DATA_DIR=/data\n/more", `="/data\n/more" cannot be used: it has a line break or another control character` + full},

		{"DATA_DIR=~/data", `="~/data" cannot be used: it begins with ~, which only a shell replaces` + full},
		{"DATA_DIR=~", `="~" cannot be used: it begins with ~, which only a shell replaces` + full},
		{"DATA_DIR=~alice/data", `="~alice/data" cannot be used: it begins with ~, which only a shell replaces` + full},
		{`DATA_DIR="~/data"`, `="\"~/data\"" cannot be used: it has quotes, white space or a comment around it, which only a shell removes and begins with ~, which only a shell replaces` + full},
		{"DATA_DIR=$HOME/data", `="$HOME/data" cannot be used: it has $HOME, which only a shell replaces` + full},
		{"DATA_DIR=/srv/$USER", `="/srv/$USER" cannot be used: it has $USER, which only a shell replaces` + full},
		{"DATA_DIR=${HOME}/data", `="${HOME}/data" cannot be used: it has ${HOME}, which only a shell replaces` + full},
		{"DATA_DIR=${DIR:-/data}", `="${DIR:-/data}" cannot be used: it has ${DIR, which only a shell replaces` + full},
		{"DATA_DIR=$(pwd)/data", `="$(pwd)/data" cannot be used: it has $(, which only a shell replaces` + full},
		{"DATA_DIR=/srv/`hostname`/data", "=\"/srv/`hostname`/data\" cannot be used: it has `, which only a shell replaces" + full},
		{`DATA_DIR=%APPDATA%\data`, `="%APPDATA%\\data" cannot be used: it has %APPDATA%, which only a shell replaces` + full},
		{"DATA_DIR=file:///data", `="file:///data" cannot be used: it begins with file:, which nothing here opens` + full},
		{"DATA_DIR=FILE:/data", `="FILE:/data" cannot be used: it begins with file:, which nothing here opens` + full},
		{"DATA_DIR=s3://bucket/data", `="s3://bucket/data" cannot be used: it is a URL` + full},

		{"TLS_CERT_FILE=~/cert.pem", `="~/cert.pem" cannot be used: it begins with ~, which only a shell replaces` + full},
		{"TLS_KEY_FILE=$HOME/key.pem", `="$HOME/key.pem" cannot be used: it has $HOME, which only a shell replaces` + full},
		{"NATS_CREDS=file:///run/nats.creds", `="file:///run/nats.creds" cannot be used: it begins with file:, which nothing here opens` + full},

		{`PORT="3000"`, `="\"3000\"" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write PORT=3000`},
		{"PORT=3000\n", `="3000\n" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write PORT=3000`},
		{"PORT=3000 # web", `="3000 # web" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write PORT=3000`},
		{"HOST='127.0.0.1'", `="'127.0.0.1'" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write HOST=127.0.0.1`},
		{"TZ=UTC ", `="UTC " cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write TZ=UTC`},
		{"GIN_MODE=release\r", `="release\r" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write GIN_MODE=release`},
		{`GIN_MODE="release"`, `="\"release\"" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write GIN_MODE=release`},
		{`ALLOWED_ORIGINS="https://a.example, https://b.example"`, `="\"https://a.example, https://b.example\"" cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write ALLOWED_ORIGINS=https://a.example, https://b.example`},
		{"TRUSTED_PROXIES=10.0.0.0/8 ", `="10.0.0.0/8 " cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write TRUSTED_PROXIES=10.0.0.0/8`},

		{`PUBLISH_TOKEN="secret"`, " cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write the value alone"},
		{"PUBLISH_TOKEN='secret'", " cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write the value alone"},
		{"PUBLISH_TOKEN=’secret’", " cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write the value alone"},
		{"PUBLISH_TOKEN=secret\r", " cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write the value alone"},
		{"PUBLISH_TOKEN=secret\n", " cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write the value alone"},
		{"PUBLISH_TOKEN=secret ", " cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write the value alone"},
		{"PUBLISH_TOKEN=~/token", " cannot be used: it begins with ~, which only a shell replaces; write the value itself"},
		{"PUBLISH_TOKEN=$HOME/token", " cannot be used: it has the name of a variable, which only a shell replaces; write the value itself"},
		{"PUBLISH_TOKEN=$PUBLISH_TOKEN", " cannot be used: it has the name of a variable, which only a shell replaces; write the value itself"},
		{"PUBLISH_TOKEN=${TOKEN}", " cannot be used: it has the name of a variable, which only a shell replaces; write the value itself"},
		{"PUBLISH_TOKEN=$(cat /run/token)", " cannot be used: it has the name of a variable, which only a shell replaces; write the value itself"},
		{"PUBLISH_TOKEN=file:///run/secrets/token", " cannot be used: it begins with file:, which nothing here opens; write the value itself"},
		{`SUBSCRIBE_KEY="` + key32 + `"`, " cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write the value alone"},
		{"SUBSCRIBE_KEY=" + key32 + " # ours", " cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write the value alone"},
		{`NATS_URL="nats://localhost:4222"`, " cannot be used: it has quotes, white space or a comment around it, which only a shell removes; write the value alone"},
		{"NATS_URL=nats://u:${PASSWORD}@localhost", " cannot be used: it has the name of a variable, which only a shell replaces; write the value itself"},
	} {
		name, value, _ := strings.Cut(test.setting, "=")
		switch _, err := config.Load(map[string]string{name: value}); {
		case err == nil:
			t.Errorf("%q is taken", test.setting)
		case err.Error() != name+test.want:
			t.Errorf("%q:\n%s, want\n%s", test.setting, err, name+test.want)
		}
	}
}

func TestUnusualValuesAreTakenAsTheyAre(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, setting := range []string{
		"DATA_DIR=" + dir, "DATA_DIR=./a b", "DATA_DIR=/srv/~data", "DATA_DIR=/srv/it's", "DATA_DIR=/srv/a#b", "DATA_DIR=/srv/100%", "DATA_DIR=/srv/5$",
		"DATA_DIR=/srv/äöü", "DATA_DIR=C:/data", "PUBLISH_TOKEN=a$b~c#d'e", "PUBLISH_TOKEN=~tilde", "PUBLISH_TOKEN=$2y$10$abc", "SUBSCRIBE_KEY=" + key32 + " with spaces inside",
		"ALLOWED_ORIGINS=https://a.example,\n  https://b.example",
	} {
		name, value, _ := strings.Cut(setting, "=")
		if _, err := config.Load(map[string]string{name: value}); err != nil {
			t.Errorf("%q: %v", setting, err)
		}
	}
}
