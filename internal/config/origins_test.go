package config_test

import (
	"fmt"
	"strings"
	"testing"

	"gin-sse/internal/config"
)

func TestOriginsThatBrowsersSendAreTaken(t *testing.T) {
	t.Parallel()
	for _, origins := range []string{
		"*", "https://example.com", "http://localhost:5173, https://example.com", "https://[::1]:8443", "http://127.0.0.1", "http://192.168.0.7:8000",
		"https://xn--exmple-cua.com", "https://a_b.example.com", "https://example.com.", "http://example.com:443", "https://example.com:80", "http://a-b.example:1",
		// shells around web views
		"capacitor://localhost", "ionic://localhost", "tauri://localhost", "http://tauri.localhost", "https://tauri.localhost", "app://obsidian.md", "app://-", "file://",
		"vscode-webview://0a1b2c", "exp://192.168.0.7:19000",
		// extensions
		"chrome-extension://abcdefghijklmnopabcdefghijklmnop", "moz-extension://8c1e8d4e-1f4b-4b7e-9d3a-0123456789ab", "safari-web-extension://8C1E8D4E-1F4B-4B7E-9D3A-0123456789AB",
	} {
		cfg, err := config.Load(map[string]string{"ALLOWED_ORIGINS": origins})
		if err != nil || len(cfg.AllowedOrigins) != 1+strings.Count(origins, ",") {
			t.Errorf("%q: %q and error %v", origins, cfg.AllowedOrigins, err)
		}
	}
}

func TestAnOriginThatNoBrowserSendsIsRefusedWithWhatToWrite(t *testing.T) {
	t.Parallel()
	for origin, reason := range map[string]string{
		"https://Example.com":      `a browser never sends "https://Example.com", write "https://example.com"`,
		"HTTPS://example.com":      `a browser never sends "HTTPS://example.com", write "https://example.com"`,
		"https://example.com/":     `a browser never sends "https://example.com/", write "https://example.com"`,
		"https://example.com/app":  `a browser never sends "https://example.com/app", write "https://example.com"`,
		"https://example.com:443":  `a browser never sends "https://example.com:443", write "https://example.com"`,
		"http://Example.com:80/":   `a browser never sends "http://Example.com:80/", write "http://example.com"`,
		"http://[::1]:80":          `a browser never sends "http://[::1]:80", write "http://[::1]"`,
		"http://[2001:DB8::1]":     `a browser never sends "http://[2001:DB8::1]", write "http://[2001:db8::1]"`,
		"http://example.com:":      `a browser never sends "http://example.com:", write "http://example.com"`,
		"Capacitor://localhost":    `a browser never sends "Capacitor://localhost", write "capacitor://localhost"`,
		"tauri://localhost/":       `a browser never sends "tauri://localhost/", write "tauri://localhost"`,
		"https://exämple.com":      `"https://exämple.com" is not ASCII: write the host as browsers send it`,
		"file:///index.html":       `"file:///index.html" is not a scheme, a host and perhaps a port`,
		"example.com":              `"example.com" is not a scheme, a host and perhaps a port`,
		"localhost:5173":           `"localhost:5173" is not a scheme, a host and perhaps a port`,
		"https:example.com":        `"https:example.com" is not a scheme, a host and perhaps a port`,
		"://example.com":           `"://example.com" is not a scheme, a host and perhaps a port`,
		"1a://example.com":         `"1a://example.com" is not a scheme, a host and perhaps a port`,
		"https://":                 `"https://" is not a scheme, a host and perhaps a port`,
		"https://:443":             `"https://:443" is not a scheme, a host and perhaps a port`,
		"https://user@example.com": `"https://user@example.com" is not a scheme, a host and perhaps a port`,
		"https://example.com?a=b":  `"https://example.com?a=b" is not a scheme, a host and perhaps a port`,
		"https://exa mple.com":     `"https://exa mple.com" is not a scheme, a host and perhaps a port`,
		"https://example.com:port": `"https://example.com:port" is not a scheme, a host and perhaps a port`,
		"https://[::g":             `"https://[::g" is not a scheme, a host and perhaps a port`,
		"null":                     `"null" is not a scheme, a host and perhaps a port`,
		"https://*.example.com":    `"https://*.example.com" has a *`,
		"https://a.example,*":      `"*" has a *`,
	} {
		_, err := config.Load(map[string]string{"ALLOWED_ORIGINS": origin})
		begin := fmt.Sprintf("ALLOWED_ORIGINS=%q cannot be used: it accepts origins as browsers send them, such as https://example.com, ", origin)
		if err == nil || !strings.HasPrefix(err.Error(), begin) || !strings.Contains(err.Error(), "or * alone for all. Here "+reason) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s… Here %s", origin, err, begin, reason)
		}
	}
}
