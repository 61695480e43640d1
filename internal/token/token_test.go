package token

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"gin-sse/internal/event"
	"gin-sse/internal/secret"
)

var key = []byte("a key of 32 bytes, for tests only")

func verifier(_ testing.TB, keys ...[]byte) *Verifier {
	var values []string
	for _, key := range keys {
		values = append(values, string(key))
	}
	return New(secret.Of(values...), []string{"*"})
}

// check is Check for tests of how long a stream may last.
func check(v *Verifier, r *http.Request, topics []string) (time.Time, error) {
	g, err := v.Check(r, topics)
	return g.Until, err
}

// request is one for the stream, with headers in pairs of name and value.
func request(headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/sse?topic=private/a", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func bearer(token string) *http.Request { return request("Authorization", "Bearer "+token) }

func sign(t testing.TB, method jwt.SigningMethod, claims jwt.Claims, key any) string {
	t.Helper()
	text, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// signText signs header and claims, which need not be JSON.
func signText(header, claims string, key []byte) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac(text, key))
}

func mac(text string, key []byte) []byte {
	hash := hmac.New(sha256.New, key)
	hash.Write([]byte(text))
	return hash.Sum(nil)
}

const hs256 = `{"alg":"HS256","typ":"JWT"}`

// refused fails the test unless the error has this status, its message begins with want, and what a
// client gets of it can stand in a header.
func refused(t *testing.T, until time.Time, err error, status int, want string) *Error {
	t.Helper()
	refusal, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("the token was accepted until %v, or the error %v is not an *Error; want %d %s", until, err, status, want)
	}
	if refusal.Status != status || !strings.HasPrefix(refusal.Message, want) || refusal.Error() != refusal.Message {
		t.Errorf("got %d %s\nwant %d %s", refusal.Status, refusal.Message, status, want)
	}
	if !until.IsZero() {
		t.Errorf("a refused request may go on until %v", until)
	}
	printable(t, refusal)
	return refusal
}

func printable(t *testing.T, refusal *Error) {
	t.Helper()
	if refusal.Challenge != "" && !strings.HasPrefix(refusal.Challenge, `Bearer realm="gin-sse"`) {
		t.Errorf("WWW-Authenticate: %s", refusal.Challenge)
	}
	for _, r := range refusal.Challenge + refusal.Message {
		if r < ' ' || r > '~' {
			t.Errorf("%q has characters that are not printable ASCII", refusal.Challenge+refusal.Message)
		}
	}
	if strings.ContainsAny(refusal.Message, `"\`) {
		t.Errorf("%q cannot stand in quotes", refusal.Message)
	}
}

func TestATokenOpensTheTopicsThatItListsUntilItExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := verifier(t, key)
		text, err := Issue(key, []string{"private/orders/alice", "private/builds/*"}, "alice", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []*http.Request{
			bearer(text),
			request("Authorization", "bearer "+text),
			request("Authorization", "BEARER   "+text+" "),
			request("Cookie", "theme=dark; access_token="+text),
			request("Cookie", "access_token="+text, "Authorization", "Basic YWxpY2U6c2VjcmV0"), // of a proxy's password
			request("Cookie", "access_token=expired", "Authorization", "Bearer "+text),
		} {
			until, err := check(v, r, []string{"news", "private/orders/alice", "private/builds/7"})
			if want := time.Now().Add(time.Hour); err != nil || !until.Equal(want) {
				t.Errorf("%v: until %v with %v, want %v", r.Header, until, err, want)
			}
		}
	})
}

func TestPublicTopicsNeedNoTokenAndIgnoreABadOne(t *testing.T) {
	t.Parallel()
	for _, v := range []*Verifier{verifier(t, key), verifier(t, nil)} {
		for _, topics := range [][]string{nil, {""}, {"news"}, {"*"}, {"news/*"}, {"private"}, {"privates/a"}, {"news/private/a"}, {"Private/a"}} {
			for _, r := range []*http.Request{request(), bearer("garbage"), request("Cookie", "access_token=garbage"), request("Authorization", "a", "Authorization", "b")} {
				if until, err := check(v, r, topics); err != nil || !until.IsZero() {
					t.Errorf("%q: until %v with %v, want no end and no error", topics, until, err)
				}
			}
		}
	}
}

func TestEveryClaimThatIsWrongIsRefusedWithItsReason(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	const now = 946684800 // 2000-01-01T00:00:00Z, where the clock of synctest starts
	run := func(name string, f func(*testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
	}
	v := verifier(t, key)
	otherKey := []byte("another key, of 32 bytes and more")
	good := jwt.MapClaims{"topics": []string{"private/a"}, "exp": now + 60, "sub": "SECRET"}
	with := func(name string, value any) string {
		claims := maps.Clone(good)
		claims[name] = value
		return sign(t, jwt.SigningMethodHS256, claims, key)
	}
	without := func(name string) string {
		claims := maps.Clone(good)
		delete(claims, name)
		return sign(t, jwt.SigningMethodHS256, claims, key)
	}
	claims := func(text string) string { return signText(hs256, text, key) }
	many := func(n int) []string {
		topics := slices.Repeat([]string{"b"}, n)
		topics[n-1] = "private/a"
		return topics
	}
	valid := with("topics", []string{"private/a"})
	header, rest, _ := strings.Cut(valid, ".")
	body, signature, _ := strings.Cut(rest, ".")

	const (
		notJWT     = "The token is not a JWT: "
		notHS256   = "The token is not signed with HS256, the only algorithm that is accepted."
		notKey     = "The token is not signed with this server's SUBSCRIBE_KEY."
		notSeconds = "The token has an exp that is not a number of seconds since 1970."
		notTopics  = "The token has topics that are not a list of strings."
		notATopic  = "Entry 2 of the token's topics is not the name of a topic: it takes 1 to 200 "
		expired    = "The token expired at "
		noTopics   = "The token has no topics, "
		noExp      = "The token has no exp, "
		tooLarge   = "The token is larger than 8192 bytes."
		tooMany    = "The token lists more than 1000 topics."
	)
	for _, test := range []struct{ name, token, want string }{
		{"garbage", "SECRET", notJWT},
		{"undefined", "undefined", notJWT},
		{"one dot", "a.b", notJWT},
		{"two dots", "..", notJWT},
		{"three dots", valid + ".", notJWT},
		{"many dots", strings.Repeat(".", 8000), notJWT},
		{"two tokens", valid + ", Bearer " + valid, notJWT},
		{"header that is no JSON", signText("SECRET", "{}", key), notJWT},
		{"header that is null", signText("null", "{}", key), notHS256},
		{"claims that are no JSON", claims("SECRET"), notJWT},
		{"claims that are a list", claims("[1]"), notJWT},
		{"claims that are null", claims("null"), noExp},
		{"padded", valid + "=", notJWT},
		{"64 KB", strings.Repeat("a", 64<<10), tooLarge},
		{"64 KB, signed", with("filler", strings.Repeat("a", 48<<10)), tooLarge},

		{"alg none", sign(t, jwt.SigningMethodNone, good, jwt.UnsafeAllowNoneSignatureType), notHS256},
		{"alg none in capitals", signText(`{"alg":"NONE"}`, "{}", key), notHS256},
		{"alg none with a signature", signText(`{"alg":"none"}`, "{}", key), notHS256},
		{"alg missing", signText(`{"typ":"JWT"}`, "{}", key), notHS256},
		{"alg as a number", signText(`{"alg":256}`, "{}", key), notHS256},
		{"alg in small letters", signText(`{"alg":"hs256"}`, "{}", key), notHS256},
		{"HS384", sign(t, jwt.SigningMethodHS384, good, key), notHS256},
		{"HS512", sign(t, jwt.SigningMethodHS512, good, key), notHS256},
		{"RS256", sign(t, jwt.SigningMethodRS256, good, rsaKey), notHS256},
		{"RS256 with the key as a public key", signText(`{"alg":"RS256"}`, "{}", key), notHS256},
		{"a critical header", signText(`{"alg":"HS256","crit":["b64"],"b64":false}`, "{}", key), "The token has a header crit"},

		{"another key", sign(t, jwt.SigningMethodHS256, good, otherKey), notKey},
		{"another key, expired", signText(hs256, `{"exp":1}`, otherKey), notKey},
		{"another key, nothing right", signText(hs256, `{"exp":"SECRET","topics":7}`, otherKey), notKey},
		{"no signature", header + "." + body + ".", notKey},
		{"half a signature", header + "." + body + "." + signature[:20], notKey},
		{"claims of another token", header + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"topics":["private/*"],"exp":9999999999}`)) + "." + signature, notKey},

		{"no claims", claims("{}"), noExp},
		{"exp missing", without("exp"), noExp},
		{"exp null", with("exp", nil), noExp},
		{"exp in capitals", claims(`{"EXP":9999999999,"topics":["private/a"]}`), noExp},
		{"exp as text", with("exp", fmt.Sprint(now+60)), notSeconds},
		{"exp as a list", with("exp", []int64{now + 60}), notSeconds},
		{"exp in milliseconds", with("exp", 1790000000000), notSeconds},
		{"exp far beyond int64", claims(`{"exp":1e300,"topics":["private/a"]}`), notSeconds},
		{"exp beyond float64", claims(`{"exp":1e999,"topics":["private/a"]}`), notJWT},
		{"exp below zero", with("exp", -1), notSeconds},
		{"exp zero", with("exp", 0), expired + "1970-01-01T00:00:00Z. The server's clock says 2000-01-01T00:00:00Z."},
		{"expired", with("exp", now-3600), expired + "1999-12-31T23:00:00Z. "},
		{"expired 30 s ago", with("exp", now-30), expired + "1999-12-31T23:59:30Z. "},
		{"the last exp counts", claims(`{"exp":9999999999,"exp":1,"topics":["private/a"]}`), expired},
		{"nbf as text", with("nbf", "SECRET"), "The token has an nbf that is not a number of seconds since 1970."},
		{"nbf null", with("nbf", nil), "The token has an nbf that is not a number of seconds since 1970."},
		{"nbf in milliseconds", with("nbf", 1790000000000), "The token has an nbf that is not a number of seconds since 1970."},
		{"not yet valid", with("nbf", now+31), "The token is not valid before 2000-01-01T00:00:31Z. The server's clock says 2000-01-01T00:00:00Z."},

		{"topics missing", without("topics"), noTopics},
		{"topics null", with("topics", nil), noTopics},
		{"topics as text", with("topics", "private/a"), notTopics},
		{"topics as an object", with("topics", map[string]bool{"private/a": true}), notTopics},
		{"topics with null", with("topics", []any{"private/a", nil}), notTopics},
		{"topics of numbers", with("topics", []int{1}), notTopics},
		{"topics of lists", with("topics", [][]string{{"private/a"}}), notTopics},
		{"1,001 topics", with("topics", many(1001)), tooMany},
		{"10,000 topics", with("topics", many(10000)), tooLarge},
	} {
		run(test.name, func(t *testing.T) {
			until, err := check(v, bearer(test.token), []string{"private/a"})
			refusal := refused(t, until, err, http.StatusUnauthorized, test.want)
			if want := fmt.Sprintf(`Bearer realm="gin-sse", error="invalid_token", error_description="%s"`, refusal.Message); refusal.Challenge != want {
				t.Errorf("WWW-Authenticate: %s\nwant %s", refusal.Challenge, want)
			}
			if strings.Contains(refusal.Challenge, "SECRET") || strings.Contains(refusal.Challenge, test.token) {
				t.Errorf("%s repeats what is in the token", refusal.Challenge)
			}
		})
	}

	for _, pattern := range []string{"", "/", "/*", "private/", "private//a", "/private/a", "private/a/", "private/*/a", "private/a*", "private/*a", "*/a", "**", "private/**", "private/a b", "private/ä", "private/a\x00", "private/a?b", strings.Repeat("a", 201)} {
		run(fmt.Sprintf("topics with %.20q", pattern), func(t *testing.T) {
			until, err := check(v, bearer(with("topics", []string{"private/a", pattern})), []string{"private/a"})
			refused(t, until, err, http.StatusUnauthorized, notATopic)
		})
	}

	for name, text := range map[string]string{ // and what is right
		"1,000 topics":         with("topics", many(1000)),
		"the longest name":     with("topics", []string{"private/a", strings.Repeat("a", 200), strings.Repeat("a", 198) + "/*"}),
		"public topics":        with("topics", []string{"private/a", "news", "news/*", "*"}),
		"valid from 30 s on":   with("nbf", now+30),
		"valid since now":      with("nbf", now),
		"exp with a fraction":  with("exp", float64(now)+60.5),
		"claims of no meaning": claims(fmt.Sprintf(`{"exp":%d,"topics":["private/a"],"iat":"x","aud":7,"sub":[]}`, now+60)),
	} {
		run(name, func(t *testing.T) {
			if _, err := check(v, bearer(text), []string{"private/a"}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestARequestWithoutATokenIsAskedForOne(t *testing.T) {
	t.Parallel()
	v := verifier(t, key)
	text, err := Issue(key, []string{"private/a"}, "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*http.Request{
		request(),
		request("Authorization", ""),
		request("Authorization", "Bearer"),
		request("Authorization", "Bearer "),
		request("Authorization", "Basic YWxpY2U6c2VjcmV0"),
		request("Authorization", text),
		request("Authorization", "Bearer"+text),
		request("Authorization", "Token "+text),
		request("Cookie", "access_token="),
		request("Cookie", "ACCESS_TOKEN="+text),
		request("Cookie", "token="+text),
		request("Authorization", "Bearer ", "Cookie", "access_token="+text), // the page's own choice counts
	} {
		until, err := check(v, r, []string{"private/a"})
		refusal := refused(t, until, err, http.StatusUnauthorized, "The topic private/a needs a token. Send it in a header, Authorization: Bearer TOKEN, or in the cookie access_token.")
		if refusal.Challenge != `Bearer realm="gin-sse"` {
			t.Errorf("WWW-Authenticate: %s", refusal.Challenge)
		}
	}
}

func TestARequestWithSeveralTokensIsRefused(t *testing.T) {
	t.Parallel()
	v := verifier(t, key)
	text, err := Issue(key, []string{"private/a"}, "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for want, r := range map[string]*http.Request{
		"The request has several Authorization headers. Send one.":    request("Authorization", "Bearer "+text, "Authorization", "Bearer "+text),
		"The request has several cookies access_token, which differ ": request("Cookie", "access_token="+text+"; access_token=old"),
	} {
		until, err := check(v, r, []string{"private/a"})
		refusal := refused(t, until, err, http.StatusBadRequest, want)
		if !strings.HasPrefix(refusal.Challenge, `Bearer realm="gin-sse", error="invalid_request", error_description="The request`) {
			t.Errorf("WWW-Authenticate: %s", refusal.Challenge)
		}
	}
}

func TestATokenInTheAddressIsRefusedForPublicTopicsToo(t *testing.T) {
	t.Parallel()
	text, err := Issue(key, []string{"private/a"}, "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"access_token", "authorization", "bearer", "jwt", "token", "Access_Token", "access%5Ftoken"} {
		for _, topic := range []string{"private/a", "news", ""} {
			for _, v := range []*Verifier{verifier(t, key), verifier(t, nil)} {
				r := bearer(text)
				r.URL, err = url.Parse("/sse?topic=" + topic + "&" + name + "=" + text)
				if err != nil {
					t.Fatal(err)
				}
				until, err := check(v, r, []string{topic})
				refusal := refused(t, until, err, http.StatusBadRequest, "A token does not belong in the address (")
				if strings.Contains(refusal.Challenge, text) {
					t.Errorf("%s repeats the token", refusal.Challenge)
				}
			}
		}
	}
}

func TestWithoutAKeyPrivateTopicsAreOff(t *testing.T) {
	t.Parallel()
	v := verifier(t, nil)
	for _, key := range [][]byte{key, nil, {}} {
		text := signText(hs256, `{"exp":9999999999,"topics":["private/*"]}`, key)
		until, err := check(v, bearer(text), []string{"news", "private/a"})
		refusal := refused(t, until, err, http.StatusForbidden, "The topic private/a is private, and private topics are off. To turn them on, start the server with SUBSCRIBE_KEY set to ")
		if refusal.Challenge != "" {
			t.Errorf("WWW-Authenticate: %s, but no token helps", refusal.Challenge)
		}
	}
}

func TestAKeyMustBeLongAndIsNotRepeated(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"short", strings.Repeat("k", 31), strings.Repeat("k", 32) + "\n", " " + strings.Repeat("k", 32)} {
		err := CheckKey([]byte(key))
		if err == nil || !strings.HasPrefix(err.Error(), "SUBSCRIBE_KEY cannot be used: it takes a secret of at least 32 bytes") || strings.Contains(err.Error(), key) {
			t.Errorf("%q: %v", key, err)
		}
	}
	if err := CheckKey([]byte(strings.Repeat("k", 32))); err != nil {
		t.Error(err)
	}
}

func TestATokenOpensNothingBesideWhatItLists(t *testing.T) {
	t.Parallel()
	v := verifier(t, key)
	for _, test := range []struct {
		listed string
		opens  []string
		not    []string
	}{
		{"private/builds", []string{"private/builds"}, []string{"private/build", "private/builds2", "private/builds/1", "private/builds/*", "private/*", "private/Builds"}},
		{"private/builds/*", []string{"private/builds/1", "private/builds/1/log", "private/builds/*", "private/builds/1/*"}, []string{"private/builds", "private/buildsecret", "private/buildsecret/1", "private/builds-2/1", "private/build/1", "private/*", "private/other"}},
		{"private/builds/1", []string{"private/builds/1"}, []string{"private/builds/10", "private/builds/1/log", "private/builds/*", "private/builds/1/*"}},
		{"private/*", []string{"private/a", "private/a/b/c", "private/*", "private/a/*"}, nil},
		{"*", nil, []string{"private/a", "private/*", "private/a/*"}},
		{"private", nil, []string{"private/a", "private/*"}},
		{"news/*", nil, []string{"private/a", "private/*"}},
		{"privat/*", nil, []string{"private/a", "private/*"}},
		{"privates/*", nil, []string{"private/a", "private/*"}},
	} {
		text, err := Issue(key, []string{"news", test.listed}, "", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range test.opens {
			if until, err := check(v, bearer(text), []string{topic}); err != nil || until.IsZero() {
				t.Errorf("%s: %s until %v, %v; want it open", test.listed, topic, until, err)
			}
		}
		for _, topic := range test.not {
			until, err := check(v, bearer(text), append(slices.Clone(test.opens), topic))
			refusal := refused(t, until, err, http.StatusForbidden, "The token does not list the topic "+topic+".")
			if want := `Bearer realm="gin-sse", error="insufficient_scope", error_description="The token does not list the topic ` + topic + `."`; refusal.Challenge != want {
				t.Errorf("WWW-Authenticate: %s\nwant %s", refusal.Challenge, want)
			}
		}
	}

	text, err := Issue(key, []string{"private/a"}, "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	none := signText(hs256, `{"exp":9999999999,"topics":[]}`, key)
	for _, text := range []string{text, none} {
		until, err := check(v, bearer(text), []string{"private/\"\r\n\xff"}) // the caller should have refused it
		refused(t, until, err, http.StatusForbidden, "The token does not list the topic private/????.")
	}
}

func TestAStreamEndsAtExpAndAnOldTokenIsLetInOnceMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := verifier(t, key)
		exp := time.Now().Add(time.Minute)
		text, err := Issue(key, []string{"private/a"}, "", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []time.Time{exp, exp.Add(30 * time.Second)} {
			until, err := check(v, bearer(text), []string{"private/a"})
			if err != nil || !until.Equal(want) {
				t.Fatalf("at %v: until %v with %v, want %v", time.Now(), until, err, want)
			}
			time.Sleep(time.Until(until) - time.Nanosecond) // the clock of synctest
			if late, err := check(v, bearer(text), []string{"private/a"}); err != nil || !late.Equal(want) {
				t.Errorf("just before its end: until %v with %v, want %v", late, err, want)
			}
			time.Sleep(time.Nanosecond)
		}
		until, err := check(v, bearer(text), []string{"private/a"})
		refused(t, until, err, http.StatusUnauthorized, "The token expired at 2000-01-01T00:01:00Z. The server's clock says 2000-01-01T00:01:30Z.")
	})
}

// A token of any kind, in any place, opens nothing unless it has the key's signature.
func FuzzWithoutTheSignatureNothingIsGranted(f *testing.F) {
	v := verifier(f, key)
	valid, err := Issue(key, []string{"private/*"}, "", 1000*time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	other, err := Issue([]byte("another key, of 32 bytes and more"), []string{"private/*"}, "", 1000*time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(valid, "private/a")
	f.Add(other, "private/a")
	f.Add(valid[:len(valid)-1], "private/*")
	f.Add(signText(`{"alg":"none"}`, `{"exp":9999999999,"topics":["private/*"]}`, nil), "private/a")
	f.Add("", "private/a")
	f.Add("..", "private/")
	f.Fuzz(func(t *testing.T, text, topic string) {
		if !event.IsPrivate(topic) {
			topic = "private/" + topic
		}
		for _, r := range []*http.Request{bearer(text), request("Cookie", "access_token="+text), request("Authorization", text)} {
			until, err := check(v, r, []string{topic})
			if err != nil {
				refusal, ok := errors.AsType[*Error](err)
				if !ok || !until.IsZero() {
					t.Fatalf("until %v with %v", until, err)
				}
				printable(t, refusal)
				continue
			}
			sent := strings.TrimSpace(text)
			if dot := strings.LastIndexByte(sent, '.'); dot >= 0 {
				signature, _ := base64.RawURLEncoding.DecodeString(sent[dot+1:])
				if hmac.Equal(signature, mac(sent[:dot], key)) {
					continue
				}
			}
			t.Fatalf("%q opens %q until %v without a signature", text, topic, until)
		}
	})
}

// Whatever stands in a signed token, it opens a topic only if it lists that or a prefix of it, and not
// for long after exp.
func FuzzSignedClaimsGrantOnlyWhatTheyList(f *testing.F) {
	v := verifier(f, key)
	for _, claims := range []string{
		`{"exp":9999999999,"topics":["private/a"]}`, `{"exp":9999999999,"topics":["private/*","*"]}`, `{"exp":1e999,"topics":["private/a/*"]}`,
		`{"exp":"9","topics":[]}`, `{"exp":9999999999,"nbf":-1,"topics":[null]}`, `{"exp":null}`, `[]`, `null`, ``, `{"exp":9999999999.5,"topics":{}}`,
	} {
		f.Add(claims, "private/a")
		f.Add(claims, "private/a/b")
	}
	f.Fuzz(func(t *testing.T, claims, topic string) {
		if !event.IsPrivate(topic) {
			topic = "private/" + topic
		}
		until, err := check(v, bearer(signText(hs256, claims, key)), []string{topic})
		if err != nil {
			refusal, ok := errors.AsType[*Error](err)
			if !ok || !until.IsZero() {
				t.Fatalf("until %v with %v", until, err)
			}
			printable(t, refusal)
			return
		}
		if until.Before(time.Now().Add(-time.Minute)) || until.Year() > 9999 {
			t.Errorf("%s opens %q until %v", claims, topic, until)
		}
		var listed map[string]any
		if err := json.Unmarshal([]byte(claims), &listed); err != nil {
			t.Fatalf("%q is no JSON and opens %q", claims, topic)
		}
		topics, _ := listed["topics"].([]any)
		if !slices.ContainsFunc(topics, func(pattern any) bool {
			name, _ := pattern.(string)
			return name == topic || strings.HasSuffix(name, "/*") && strings.HasPrefix(topic, name[:len(name)-1])
		}) {
			t.Errorf("%s opens %q", claims, topic)
		}
	})
}
