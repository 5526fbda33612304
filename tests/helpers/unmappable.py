"""A folder that one process cannot map into memory, as on some network drives and shared folders."""

import os
import shutil
import subprocess
import sys

import pytest

CODE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int refused(int handle) {
    char link[64], path[4096];
    if (handle < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strncmp(path, getenv("UNMAPPABLE"), strlen(getenv("UNMAPPABLE"))) == 0;
}

#define REFUSING(NAME) \
    void *NAME(void *start, size_t length, int rights, int flags, int handle, off_t offset) { \
        if (refused(handle)) { errno = ENODEV; return MAP_FAILED; } \
        static void *(*real)(void *, size_t, int, int, int, off_t); \
        if (!real) real = dlsym(RTLD_NEXT, #NAME); \
        return real(start, length, rights, flags, handle, offset); \
    }

REFUSING(mmap)
REFUSING(mmap64)
"""


def run(folder, code, *arguments):
    """What Python code prints in a process for which no file in this folder can be mapped."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler")
    library = folder.parent / f"{folder.name}.so"
    if not library.exists():
        command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", library, "-ldl"]
        subprocess.run(command, input=CODE, text=True, check=True)
    environment = {**os.environ, "LD_PRELOAD": str(library), "UNMAPPABLE": str(folder.resolve())}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
