"""`lightavseg` in several processes, as `torchrun` starts them: on this machine's cores, by gloo."""

import os
import subprocess
import sys


def start(processes: int, *arguments) -> subprocess.Popen:
    """One process of `lightavseg` with these arguments, or several under a launcher. Each has one thread."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", "lightavseg_core.cli"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1"}
    return subprocess.Popen(
        [*command, *map(str, arguments)], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )


def launch(processes: int, *arguments, limit: float = 200) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    running = start(processes, *arguments)
    out, err = running.communicate(timeout=limit)
    return running.returncode, out, err
