# SPDX-License-Identifier: Apache-2.0
"""libnovakms as a program outside this tree sees it: installed, found through pkg-config, with the
example of docs/sdk.md as the program."""
import os
import re
import shlex
import subprocess

import pytest

import harness
from harness import BUILD, ROOT

HEADER = ROOT / "src/client/novakms.h"


def run(*command, check=True, **env):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False,
                          timeout=harness.DEADLINE_S, env=dict(os.environ, **env))
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def cache(name):
    found = re.search("^%s:[^=]*=(.*)$" % name, (BUILD / "CMakeCache.txt").read_text(), re.M)
    return found.group(1) if found else ""


def sanitizer_flags():
    """A program that loads an instrumented library must be linked with the same sanitizer."""
    kind = cache("NOVA_SANITIZE")
    return ["-fsanitize=" + {"address": "address,undefined"}.get(kind, kind)] if kind else []


@pytest.fixture(scope="module")
def sdk(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("prefix")
    run("cmake", "--install", BUILD, "--prefix", prefix, "--component", "sdk")
    return prefix


@pytest.fixture(scope="module")
def pkg_config(sdk):
    pc, = sdk.rglob("novakms.pc")

    def ask(*arguments):
        return shlex.split(run("pkg-config", *arguments, "novakms",
                               PKG_CONFIG_PATH=str(pc.parent)).stdout)

    return ask


def example():
    found = re.findall(r"^```c\n(.*?)^```", (ROOT / "docs/sdk.md").read_text(), re.M | re.S)
    assert len(found) == 1, "docs/sdk.md has one program"
    assert found[0].count("\n") <= 40
    return found[0]


def compile_with(directory, source, flags):
    program = directory / "app"
    (directory / "app.c").write_text(source)
    run(cache("CMAKE_C_COMPILER") or "cc", "-Wall", "-Wextra", "-Werror", "-std=c11", "-o", program,
        directory / "app.c", *sanitizer_flags(), *flags)
    return program


def shared(pkg_config):
    return pkg_config("--cflags", "--libs")


def static(pkg_config):
    return ["-l:libnovakms.a" if f == "-lnovakms" else f
            for f in pkg_config("--cflags", "--libs", "--static")]


@pytest.mark.parametrize("how", [shared, static], ids=["shared", "static"])
def test_the_example_runs(node, sdk, pkg_config, tmp_path, how):
    program = compile_with(tmp_path, example(), how(pkg_config))
    libdir, = {str(p.parent) for p in sdk.rglob("libnovakms.so")}
    linked = run("ldd", program, LD_LIBRARY_PATH=libdir).stdout
    assert ("libnovakms.so" in linked) == (how is shared)
    done = run(program, node.dir, LD_LIBRARY_PATH=libdir)
    assert done.stdout == "a key of 32 bytes\nhello\n"
    assert done.stderr == ""


def test_the_example_says_what_is_wrong(sdk, pkg_config, tmp_path):
    program = compile_with(tmp_path, example(), static(pkg_config))
    done = run(program, tmp_path, check=False)
    assert done.returncode == 1
    assert "node.json" in done.stderr and done.stderr.count("\n") == 1


def test_the_header_alone_compiles_as_c_and_cpp(pkg_config, tmp_path):
    source = "#include <novakms.h>\nint main(void) { return novakms_version() == 0; }\n"
    compile_with(tmp_path, source, static(pkg_config))
    (tmp_path / "app.cpp").write_text("#include <novakms.h>\n")
    run("clang", "-x", "c++", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only",
        tmp_path / "app.cpp", *pkg_config("--cflags"))


def test_the_generated_stubs_compile(node, sdk, pkg_config, tmp_path):
    source = """
        #include <novakms.h>
        #include <novakms/v1/kms.pb-c.h>
        #include <stdio.h>
        static void answered(const Novakms__V1__WhoAmIResponse *answer, void *data) {
            *(unsigned long *)data = answer == NULL ? 0 : (unsigned long)answer->app_id;
        }
        int main(int argc, char **argv) {
            struct novakms_cfg cfg = { .dev_dir = argv[argc - 1] };
            struct novakms *kms = NULL;
            if (novakms_open(&cfg, &kms, NULL) != NOVAKMS_OK) { return 1; }
            Novakms__V1__WhoAmIRequest request = NOVAKMS__V1__WHO_AM_IREQUEST__INIT;
            unsigned long app_id = 0;
            novakms__v1__kms_service__who_am_i(
                novakms_channel_service(kms, &novakms__v1__kms_service__descriptor), &request,
                answered, &app_id);
            while (novakms_poll(kms, 1000) > 0) { }
            printf("%lu\\n", app_id);
            novakms_close(&kms);
            return 0;
        }
        """
    for how in (shared, static):
        program = compile_with(tmp_path, source, how(pkg_config) + ["-lprotobuf-c"])
        libdir, = {str(p.parent) for p in sdk.rglob("libnovakms.so")}
        assert int(run(program, node.dir, LD_LIBRARY_PATH=libdir).stdout) > 0


def exported(nm_options, path):
    lines = run("nm", *nm_options, "--defined-only", path).stdout.splitlines()
    names = {line.split()[2].split("@")[0] for line in lines if len(line.split()) == 3}
    assert "novakms__v1__kms_service__derive" in names
    return {n for n in names if not n.startswith(("novakms__v1__", "NOVAKMS_0"))}


def test_the_command_line_installs_with_its_pages(tmp_path):
    run("cmake", "--install", BUILD, "--prefix", tmp_path, "--component", "ctl")
    assert run(tmp_path / "bin/novakmsctl", "--version").stdout.startswith("novakmsctl ")
    assert (tmp_path / "share/man/man1/novakmsctl.1").exists()
    assert (tmp_path / "share/bash-completion/completions/novakmsctl").exists()


def test_only_the_public_functions_can_be_seen(sdk):
    declared = set(re.findall(r"\b(novakms_[a-z_]+)\((?!\*)", HEADER.read_text()))
    so, = [p for p in sdk.rglob("libnovakms.so.*") if not p.is_symlink()]
    archive, = sdk.rglob("libnovakms.a")
    instrumented = {n for n in exported(["-D"], so) if n.startswith("__")}  # A sanitizer's own.
    assert exported(["-D"], so) - instrumented == declared
    assert {n for n in exported(["-g"], archive) if not n.startswith("__")} == declared
