"""A shop whose customers watch their orders. README.md says how it works."""
import base64, hashlib, hmac, json, os, pathlib, re, secrets, threading, time, urllib.parse, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SITE = os.environ.get("SITE", "http://localhost:8000")  # where browsers find this shop
PUSH = os.environ.get("PUSH", "http://localhost:3000")  # where they find gin-sse
PUBLISH_TOKEN, SUBSCRIBE_KEY = os.environ["PUBLISH_TOKEN"].encode(), os.environ["SUBSCRIBE_KEY"].encode()
LIFETIME = int(os.environ.get("TOKEN_LIFETIME", 60))  # seconds; so short only to show the renewal
COOKIE = "HttpOnly; SameSite=Strict" + ("; Secure" if SITE.startswith("https:") else "")
POLICY = f"default-src 'self'; connect-src 'self' {PUSH}; img-src data:; frame-ancestors 'none'; base-uri 'none'"
HERE = pathlib.Path(__file__).parent
FILES = {"/": HERE / "index.html", "/page.js": HERE / "page.js", "/style.css": HERE / "style.css"}
FILES |= {f"/lib/{file.name}": file for file in (HERE / "../../../public/lib").glob("*.js")}  # of the push server; take them along
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css"}

# A real shop has all this in its database.
derive = lambda password, salt: hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 600_000)
USERS = {name: (salt := secrets.token_bytes(16), derive(word, salt)) for name, word in [("alice", "tea party"), ("bob", "can we fix it")]}
GOODS = [("alice", "1001", "Tea set"), ("alice", "1002", "Pocket watch"), ("bob", "1003", "Spanner")]
ORDERS = {number: {"customer": name, "number": number, "goods": goods, "status": "received"} for name, number, goods in GOODS}
LATEST, SESSIONS = {}, {}  # the id of each customer's latest event; whose each session is, and until when
CHANGING = threading.Lock()  # one change at a time, so that events go out in the order of the changes

def change(order, status):
    event = order | {"status": status}
    headers = {"Authorization": b"Bearer " + PUBLISH_TOKEN, "Content-Type": "application/json"}
    request = urllib.request.Request(f"{PUSH}/sse?topic=private/orders/{order['customer']}", json.dumps(event).encode(), headers)
    with CHANGING, urllib.request.urlopen(request, timeout=10) as answer:
        order["status"], LATEST[order["customer"]] = status, json.load(answer)["id"]  # the order first, as do_GET reads it last

def access(name):  # the cookie with a JWT that opens this customer's topic and no other
    encode = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=")
    claims = {"topics": [f"private/orders/{name}"], "sub": name, "exp": int(time.time()) + LIFETIME}
    text = encode(b'{"alg":"HS256","typ":"JWT"}') + b"." + encode(json.dumps(claims).encode())
    token = (text + b"." + encode(hmac.digest(SUBSCRIBE_KEY, text, "sha256"))).decode()
    return ("Set-Cookie", f"access_token={token}; Path=/sse; Max-Age={LIFETIME}; {COOKIE}")

class Shop(BaseHTTPRequestHandler):
    timeout = 10  # seconds for a client to send its request
    def do_GET(self):
        file = FILES.get(self.path)
        _, name = self.session()
        if file:  # the page has one of the two forms
            other = rb'<form id="sign-in".*?</form>' if name else rb'<form id="sign-out".*?</form>'
            self.answer(200, ("Content-Type", TYPES[file.suffix]), body=re.sub(other, b"", file.read_bytes(), flags=re.DOTALL))
        elif self.path == "/orders" and name:
            latest = LATEST.get(name, "earliest")  # before the orders: an event may then come twice, but none is missed
            orders = [order for order in ORDERS.values() if order["customer"] == name]
            shop = {"name": name, "orders": orders, "stream": f"{PUSH}/sse?topic=private/orders/{name}&lastEventId={latest}"}
            self.answer(200, ("Content-Type", "application/json"), body=json.dumps(shop).encode())
        else:
            self.answer(401 if self.path == "/orders" else 404)

    def do_POST(self):
        size = self.headers.get("Content-Length", "")
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(size)).decode("utf-8", "replace"))) if size.isdecimal() and int(size) < 1000 else {}
        session, name = self.session()  # nothing else in a request says whose it is
        if self.path == "/change" and hmac.compare_digest(self.headers.get("Authorization", "").encode(), b"Bearer " + PUBLISH_TOKEN):
            try:
                change(ORDERS[form["order"]], form["status"])
            except (KeyError, OSError) as error:
                return self.answer(502, body=f"The order stays as it was: {error!r}\n".encode())
            self.answer(204)
        elif self.headers.get("Origin") != SITE:  # another site's page must not act for our customer
            self.answer(403)
        elif self.path == "/sign-in":  # an unknown name takes as long as a wrong password
            salt, password = USERS.get(form.get("name"), (b"", b""))
            if not hmac.compare_digest(derive(form.get("password", ""), salt), password):
                return self.answer(403)
            session = secrets.token_urlsafe()
            SESSIONS[session] = form["name"], time.time() + 8 * 3600
            self.answer(204, ("Set-Cookie", f"shop={session}; Path=/; {COOKIE}"), access(form["name"]))
        elif self.path == "/sign-out":
            SESSIONS.pop(session, None)
            self.answer(204, *[("Set-Cookie", f"{gone}; Max-Age=0; {COOKIE}") for gone in ("shop=; Path=/", "access_token=; Path=/sse")])
        else:
            self.answer(*[204, access(name)] if self.path == "/renew" and name else [401])

    def session(self):
        session = dict(cookie.partition("=")[::2] for cookie in self.headers.get("Cookie", "").split("; ")).get("shop")
        name, until = SESSIONS.get(session, (None, 0))
        return session, name if time.time() < until else None

    def answer(self, status, *headers, body=b""):
        self.send_response(status)
        for header in [("Content-Security-Policy", POLICY), ("Cache-Control", "no-store"), *headers]:
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(body)

server = ThreadingHTTPServer(("127.0.0.1", urllib.parse.urlsplit(SITE).port or 8000), Shop)
print(f"The shop is at {SITE}", flush=True)
server.serve_forever()
