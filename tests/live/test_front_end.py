"""The page's log-mel, in node, beside the package's: every front end, at every second."""

import json
import os
import shutil
import subprocess

import pytest
import torch
from helpers.live import LIVE

from lightavseg_core.data.audio import LogMel, PANNsLogMel
from lightavseg_core.deploy.web import front_end_numbers

PROGRAM = """
import { readFileSync } from "node:fs";
const { logMel } = await import(process.argv[1]);
const { waveform, seconds, rule } = JSON.parse(readFileSync(0));
const found = seconds.map((second) => [...logMel(Float32Array.from(waveform), second, rule)]);
console.log(JSON.stringify(found));
"""
FRONT_ENDS = {"vggish": LogMel(), "published": LogMel("published"), "panns": PANNsLogMel()}


@pytest.mark.slow
@pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=FRONT_ENDS)
def test_the_page_computes_the_front_end(front_end):
    """Noise, a tone, silence, a track that ends within its second, and one that has ended."""
    if shutil.which("node") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("node is missing (apt-get install nodejs)")
    rate = front_end.sample_rate
    noise = 0.3 * torch.randn(rate, generator=torch.Generator().manual_seed(0))
    tone = torch.sin(2 * torch.pi * 440 * torch.arange(rate) / rate)
    waveform = torch.cat([noise, tone, torch.zeros(rate), noise[: rate // 3]])
    seconds = list(range(5))
    given = {"waveform": waveform.tolist(), "seconds": seconds, "rule": front_end_numbers(front_end)}
    command = ["node", "--input-type=module", "-e", PROGRAM, str(LIVE / "src" / "frontend.js")]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=True)
    found = torch.tensor(json.loads(done.stdout))
    expected = front_end(waveform, torch.tensor(seconds)).flatten(1)
    assert (found - expected).abs().max() < 1e-4
