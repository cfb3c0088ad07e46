"""Runs hub_tool, beside the hub server's program or at PRETRAINED_HUB_TOOL."""
import json, os, pathlib, subprocess

import harness

TOOL = os.environ.get("PRETRAINED_HUB_TOOL", str(pathlib.Path(harness.SERVER).with_name("hub_tool")))


def tool(*words, env, expect=0, cwd=None, timeout=300):
    """What the verb answers; with another exit code expected {"error": kind, "message": …}."""
    done = subprocess.run([TOOL, *map(str, words)], capture_output=True, text=True, env=env, cwd=cwd, timeout=timeout)
    assert done.returncode == expect, f"{words}: exit {done.returncode}, expected {expect}\n{done.stdout}\n{done.stderr}"
    return json.loads((done.stderr if expect else done.stdout).splitlines()[-1])
