"""A real browser for the tests: Chromium without a window, told what to do over WebDriver (https://www.w3.org/TR/webdriver2/).

WebDriver is JSON over HTTP to a program on this machine, so the standard library will do.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--force-device-scale-factor=1",
)  # fmt: skip
KEYS = {"Home": "\ue011", "End": "\ue010", "ArrowLeft": "\ue012", "ArrowRight": "\ue014", "Tab": "\ue004", "Escape": "\ue00c"}
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the standard's name for a reference to an element
local = build_opener(ProxyHandler({})).open  # a proxy of the environment has no business here


def missing():
    """What the tests lack to run, or None."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    absent = [name for name, found in (("chromium", browser), ("chromedriver", shutil.which("chromedriver"))) if not found]
    return f"no {' and no '.join(absent)} on PATH" if absent else None


class Browser:
    """One session. `open` a file, run `js` in it, press keys; what it logged and asked the network for is noted."""

    def __init__(self, size=(1400, 900)):
        self._profile = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        self._driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=os.environ | {"HOME": self._profile.name, "TMPDIR": self._profile.name},
        )  # fmt: skip
        try:
            self._address = f"http://127.0.0.1:{self._port()}/session"
            arguments = [*FLAGS, f"--user-data-dir={self._profile.name}/profile", f"--window-size={size[0]},{size[1]}"]
            wanted = {
                "browserName": "chrome", "goog:chromeOptions": {"args": arguments},
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }  # fmt: skip
            session = self._call("", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
            self._address += f"/{session}"
            self.media()
            self._call("/url", {"url": "about:blank"})
            self.requests(), self.complaints()  # those of the page that the browser starts with
        except BaseException:
            self._stop()
            raise

    def _port(self):
        for line in self._driver.stdout:
            if found := re.search(r"started successfully on port (\d+)", line):
                return int(found[1])
        raise RuntimeError("chromedriver did not start")

    def _call(self, command, body=None, method="POST"):
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._address + command, data, {"Content-Type": "application/json"}, method=method)
        try:
            with local(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None

    def _stop(self):
        self._driver.terminate()
        self._driver.wait(timeout=20)
        self._driver.stdout.close()
        self._profile.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        try:
            self._call("", method="DELETE")
        finally:
            self._stop()

    def open(self, path):
        """Load a file from the disk."""
        self._call("/url", {"url": Path(path).resolve().as_uri()})

    def js(self, script, *arguments):
        """Run the body of a function in the page; its arguments and its result are JSON."""
        return self._call("/execute/sync", {"script": script, "args": list(arguments)})

    def until(self, script, seconds=20):
        """Wait until an expression is true in the page."""
        end = time.monotonic() + seconds
        while not self.js(f"return {script}"):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.02)

    def press(self, *keys):
        """Press and release keys, as a user does."""
        actions = [{"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")]
        self._call("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def click(self, selector):
        """Click on the middle of an element."""
        element = self._call("/element", {"using": "css selector", "value": selector})
        self._call(f"/element/{element[ELEMENT]}/click", {})

    def cdp(self, command, **parameters):
        """A command of the DevTools protocol, for what WebDriver does not cover."""
        return self._call("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def media(self, dark=False, still=True):
        """What the user prefers: a dark page, reduced motion."""
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
        ]
        self.cdp("Emulation.setEmulatedMedia", features=features)

    def size(self, width, height):
        """Resize the page."""
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def screenshot(self):
        """The page as PNG, in base64."""
        return self._call("/screenshot", method="GET")

    def complaints(self):
        """What the console said since the last call."""
        return [entry["message"] for entry in self._call("/se/log", {"type": "browser"})]

    def requests(self):
        """The addresses that pages asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self._call("/se/log", {"type": "performance"})]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
