"""Starts a real pretrained-hub on a free port with a data folder of its own; runs its admin verbs and real clients."""
import contextlib, ctypes, json, os, pathlib, re, shutil, signal, socket, subprocess, sys, tempfile
import urllib.error, urllib.parse, urllib.request

SERVER = os.environ["PRETRAINED_HUB"]
ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = str(ROOT / ".venv/bin/python")
PEERS = ROOT / "build/peers"


def clean_environment(**changes):
    """What a user's shell would have: no Hugging Face settings of this machine, and nothing trusted yet."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "GIT_", "XDG_", "PRETRAINED_TRUST"))}
    env |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1", "NO_PROXY": "*", "no_proxy": "*"}
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        env.pop(name, None)
    return env | {k: str(v) for k, v in changes.items()}


LIBC = ctypes.CDLL(None)


def die_with_parent():
    LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Hub:
    def __init__(self, *options, data=None, port=0):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hub-test-"))
        self.data = pathlib.Path(data) if data else self.folder / "data"
        self.options = options
        self.port = port
        self.start()

    def start(self):
        self.log = open(self.folder / "server.log", "ab")
        self.process = subprocess.Popen(
            [SERVER, "serve", "--data", self.data, "--listen", f"127.0.0.1:{self.port}", "--json", "--access-log",
             self.folder / "access.log", *self.settings()],
            stdout=self.log, stderr=subprocess.PIPE, preexec_fn=die_with_parent)
        line = self.process.stderr.readline()
        assert line.startswith(b"{"), line + self.process.stderr.read()
        hello = json.loads(line)
        self.port = hello["port"]
        self.url = f"{'https' if '--certificate' in self.options else 'http'}://127.0.0.1:{self.port}"
        # Whatever else it says goes to the log.
        subprocess.Popen(["cat"], stdin=self.process.stderr, stdout=self.log, stderr=self.log)
        token = self.data / "admin-token"
        if token.exists():
            self.admin = token.read_text().strip()
        elif not hasattr(self, "admin"):  # a restored hub
            self.admin = self.cli("token", "create", "admin", "--name", "tests")["token"]

    def settings(self):
        defaults = {"--rate-limit": "0", "--disk-reserve": "1MB"}
        return [*(word for name, value in defaults.items() if name not in self.options for word in (name, value)), *self.options]

    def stop(self, how=signal.SIGTERM, timeout=300):
        self.process.send_signal(how)
        self.process.wait(timeout)
        self.process.stderr.close()
        return self.process.returncode

    def restart(self, how=signal.SIGKILL):
        self.stop(how)
        self.start()

    def close(self):
        if self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def cli(self, *words, expect=0, stdin=None):
        done = subprocess.run([SERVER, *map(str, words), "--data", self.data, "--json"], capture_output=True, text=True,
                              input=stdin)
        assert done.returncode == expect, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else done.stderr

    def user(self, name, **options):
        return self.cli("user", "create", name)["token"]

    def log_text(self):
        return (self.folder / "access.log").read_text()

    def env(self, token=None, home=None, **changes):
        home = pathlib.Path(home or tempfile.mkdtemp(dir=self.folder))
        changes = {"HF_ENDPOINT": self.url, "HF_HOME": home / "hf", "HOME": home} | changes
        return clean_environment(**changes, **({"HF_TOKEN": token} if token else {}))

    def call(self, method, path, token=None, body=None, headers={}, raw=False):
        """(status, headers, JSON or bytes) of one plain request."""
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=dict(headers))
        if data is not None and "content-type" not in {h.lower() for h in headers}:
            request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect)
        try:
            answer = opener.open(request, timeout=600)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            content = answer.read()
            kind = answer.headers.get("Content-Type", "")
            if not raw and kind.startswith("application/json") and content:
                content = json.loads(content)
            return answer.status, answer.headers, content


def approve_login(hub, lines, name, password):
    """Opens the address that a device login prints to `lines` and approves its code; gives what was printed."""
    text = ""
    for line in lines:
        text += line
        code = re.search(r"\b([A-Z0-9]{4}-[A-Z0-9]{4})\b", text)
        address = re.search(re.escape(hub.url) + r"\S*", text)
        if code and address:
            break
    else:
        raise AssertionError(text)
    page = hub.call("GET", urllib.parse.urlsplit(address.group(0)).path, raw=True)[2].decode()
    fields = {m[0]: m[1] for m in re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', page)}
    fields |= {"user_code": code.group(1), "name": name, "password": password, "decision": "approve"}
    status, _, body = hub.call("POST", re.search(r'<form[^>]*action="([^"]+)"', page).group(1), raw=True,
                               body=urllib.parse.urlencode(fields).encode(),
                               headers={"Content-Type": "application/x-www-form-urlencoded", "Origin": hub.url})
    assert status == 200, body
    return text


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def run(*argv, env, expect=0, cwd=None, stdin=None, timeout=300):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, env=env, cwd=cwd, input=stdin,
                          timeout=timeout)
    assert expect is None or done.returncode == expect, (
        f"{argv}: exit {done.returncode}, expected {expect}\n{done.stdout}\n{done.stderr}")
    return done


def run_python(code, env, python=PYTHON, expect=0):
    """Runs code in a fresh interpreter; what it prints last, as JSON."""
    done = run(python, "-c", code, env=env, expect=expect)
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) if lines and expect == 0 else done


@contextlib.contextmanager
def hub(*options):
    server = Hub(*options)
    try:
        yield server
    finally:
        server.close()
