"""What the reporter costs as a machine's first program: see sidecar/measure."""

import http.server
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROUNDS = 30
BINARY = os.path.abspath(sys.argv[1])


class Server(http.server.BaseHTTPRequestHandler):
    """Answers as the server does, and notes when the agent's first word came."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    first_word = None
    spec = {}

    def do_GET(self):
        self.answer({})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.startswith("/webhooks/claim"):
            return self.answer({"spec": Server.spec})
        events = body.get("events", [])
        if any(event["type"] == "log" for event in events) and Server.first_word is None:
            Server.first_word = time.monotonic()
        last = events[-1]["seq"] if events else 0
        ended = any(event["type"] == "exit" for event in events)
        self.answer({"held": last, "expected": last + 1, "finished": ended})

    def answer(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def boot(server, root, task):
    Server.first_word = None
    Server.spec = {
        "jobId": "measured", "run": 1, "installation": "i", "agent": {"command": {}},
        "task": task, "workdir": "/workspace",
    }
    environment = {
        "PATH": os.environ["PATH"], "HOME": root, "SPRITE_ROOT": root, "JOB_ID": "measured",
        "JOB_TOKEN": "token", "OPEN_DISPATCH_CLAIM": "1",
        "OPEN_DISPATCH_URL": f"http://127.0.0.1:{server.server_port}",
    }
    return subprocess.Popen([BINARY], env=environment, stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_word(process):
    end = time.monotonic() + 30
    while Server.first_word is None:
        if process.poll() is not None or time.monotonic() > end:
            sys.exit("the agent said nothing")
        time.sleep(0.0002)


def memory(pid, name):
    with open(f"/proc/{pid}/smaps_rollup" if name == "Pss" else f"/proc/{pid}/status") as table:
        for line in table:
            if line.startswith(name + ":"):
                return int(line.split()[1]) / 1024
    return 0.0


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    size = os.path.getsize(BINARY)
    print(f"size            {size / 1e6:.2f} MB ({size} bytes)")
    dynamic = subprocess.run(["ldd", BINARY], capture_output=True, text=True)
    words = dynamic.stdout + dynamic.stderr
    static = "statically linked" in words or "not a dynamic executable" in words
    print(f"static          {'yes' if static else 'NO: ' + words.strip()}")
    starts = []
    for _ in range(ROUNDS):
        begun = time.monotonic()
        subprocess.run([BINARY, "--version"], stdout=subprocess.DEVNULL, check=True)
        starts.append((time.monotonic() - begun) * 1000)
    print(f"exec to exit    {statistics.median(starts):.1f} ms (median of {ROUNDS}, --version)")
    words = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as root:
            begun = time.monotonic()
            process = boot(server, root, "echo word")
            wait_for_word(process)
            words.append((Server.first_word - begun) * 1000)
            process.wait(30)
    print(f"exec to word    {statistics.median(words):.1f} ms (median of {ROUNDS}: claim, agent, "
          "first line at the server)")
    with tempfile.TemporaryDirectory() as root:
        process = boot(server, root, "echo word; sleep 60")
        wait_for_word(process)
        time.sleep(0.5)
        rss, private = memory(process.pid, "VmRSS"), memory(process.pid, "RssAnon")
        print(f"memory          {rss:.1f} MB RSS, {private:.1f} MB of it its own")
        process.terminate()
        process.wait(30)


main()
