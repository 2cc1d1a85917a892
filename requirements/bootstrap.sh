#!/bin/sh
# Make .venv ready: a virtual environment of Python 3.12 or newer that holds pinned packages and this project.
#
#   requirements/bootstrap.sh [NAME ...]
#
# Each NAME is a file requirements/NAME.txt to install beside build.txt, which is always installed, and beside the
# project itself (editable). What is up to date is left alone, without asking the network. $PYTHON names the interpreter
# to use; without it one is looked for.
set -eu

here=$(cd "$(dirname "$0")" && pwd -P)
top=$(dirname "$here")
venv=$top/.venv
stamps=$venv/.bootstrap # copies of what was installed; each is written after its step has worked
python=$venv/bin/python
cd "$top"

PIP_DISABLE_PIP_VERSION_CHECK=1
PIP_ROOT_USER_ACTION=ignore
export PIP_DISABLE_PIP_VERSION_CHECK PIP_ROOT_USER_ACTION
unset PYTHONHOME PIP_PREFIX PIP_TARGET PIP_USER

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "error: $1"
    shift
    for line in "$@"; do say "  $line"; done
    exit 1
}

# Run a command quietly: the end of its output is shown if it fails.
quietly() {
    "$@" >"$stamps/log" 2>&1 </dev/null || {
        tail -n 12 "$stamps/log" | sed 's/^/  | /' >&2
        return 1
    }
}

# ---------------------------------------------------------------------------------------------- finding an interpreter

# Prints what an interpreter is, one line each: its verdict, its version, the real file behind it, its identity.
# "sys._base_executable" sees through a virtual environment, a running .venv included.
describe='
import sys
version = "%d.%d.%d" % sys.version_info[:3]
verdict = "ok"
if sys.version_info < (3, 12):
    verdict = "old"
else:
    for module in ("ensurepip", "venv", "sqlite3", "ssl"):
        try:
            __import__(module)
        except ImportError:
            verdict = module
            break
print(verdict)
print(version)
print(getattr(sys, "_base_executable", None) or sys.executable)
print(" ".join((sys.base_prefix + " " + sys.version).split()))
'

# Run a candidate and set verdict, version, executable and identity. A name on PATH proves nothing: a pyenv shim may
# only say that its version is not active, so what counts is whether the program runs.
inspect() {
    verdict=missing version='' executable='' identity=''
    command -v "$1" >/dev/null 2>&1 || return 1
    described=$("$1" -c "$describe" 2>/dev/null </dev/null) || return 1
    verdict=$(printf '%s\n' "$described" | sed -n 1p)
    version=$(printf '%s\n' "$described" | sed -n 2p)
    executable=$(printf '%s\n' "$described" | sed -n 3p)
    identity=$(printf '%s\n' "$described" | sed -n 4p)
    case $verdict in
    ok) return 0 ;;
    old) return 1 ;;
    esac
    [ -n "$incomplete" ] || incomplete="$executable $version $verdict"
    return 1
}

fail_incomplete() { # executable, version, module
    minor=${2%.*}
    case $3 in
    ensurepip | venv)
        fail "$1 (Python $2) cannot make a virtual environment: its module $3 is missing." \
            "On Debian or Ubuntu: apt-get install python$minor-venv" \
            "Elsewhere install the part of Python $minor that holds $3, or name another interpreter:" \
            "make ... PYTHON=/path/to/python3"
        ;;
    *)
        fail "$1 (Python $2) was built without its module $3." \
            "Build it again with the headers of that library in place (Debian or Ubuntu: libsqlite3-dev, libssl-dev)," \
            "or name another interpreter: make ... PYTHON=/path/to/python3"
        ;;
    esac
}

find_python() {
    incomplete=''
    if [ -n "${PYTHON-}" ]; then
        inspect "$PYTHON" && return 0
        case $verdict in
        missing) fail "PYTHON=$PYTHON does not run." ;;
        old) fail "PYTHON=$PYTHON is Python $version; 3.12 or newer is needed." ;;
        *) fail_incomplete "$executable" "$version" "$verdict" ;;
        esac
    fi
    for candidate in python3 python3.14 python3.13 python3.12 "${PYENV_ROOT:-${HOME-}/.pyenv}"/versions/3.*/bin/python3; do
        inspect "$candidate" && return 0
    done
    if command -v uv >/dev/null 2>&1; then
        candidate=$(uv python find --system '>=3.12' 2>/dev/null) && inspect "$candidate" && return 0
    fi
    # shellcheck disable=SC2086 # three words
    [ -z "$incomplete" ] || fail_incomplete $incomplete
    if command -v uv >/dev/null 2>&1; then
        say "No Python 3.12 or newer found: uv installs one"
        installed=$(uv python install 3.12 2>&1) || fail "uv could not install Python 3.12:" "$installed"
        candidate=$(uv python find --system 3.12) && inspect "$candidate" && return 0
    fi
    fail "no Python 3.12 or newer found. Install one:" \
        "Debian 13, Ubuntu 24.04 or newer: apt-get install python3-venv" \
        "Fedora: dnf install python3.12    macOS: brew install python@3.12" \
        "any system: pyenv install 3.12, or uv python install 3.12" \
        "or name one that is installed: make ... PYTHON=/path/to/python3.12"
}

# ------------------------------------------------------------------------------------------------------------ the steps

# What .venv has to be: made by this script, here (its scripts and the editable install name this folder), and from the
# interpreter that still answers.
venv_is_current() {
    [ -f "$stamps/interpreter" ] || return 1
    incomplete=''
    inspect "$python" || return 1
    [ "$(cat "$stamps/interpreter")" = "$top $identity" ] || return 1
    [ -n "${PYTHON-}" ] || return 0
    current=$identity
    find_python
    [ "$identity" = "$current" ]
}

make_venv() {
    if [ -e "$venv" ] && [ ! -d "$stamps" ]; then
        fail "$venv is there already, and not made by this script." "Move it away or remove it, and try again."
    fi
    find_python
    say "Making .venv with Python $version ($executable)"
    rm -rf "$venv"
    mkdir -p "$stamps"
    quietly "$executable" -m venv "$venv" || fail "Python $version could not make $venv (see above)."
    printf '%s\n' "$top $identity" >"$stamps/interpreter"
}

install_requirements() { # name
    [ -f "$here/$1.txt" ] || fail "there is no requirements/$1.txt"
    cmp -s "$here/$1.txt" "$stamps/$1.txt" && return 0
    say "Installing requirements/$1.txt"
    quietly "$python" -m pip install --quiet --no-input --require-hashes -r "$here/$1.txt" ||
        fail "pip could not install requirements/$1.txt (see above; the whole of it is in $stamps/log)." \
            "Only a first run needs a package index: the one that your pip is set up for."
    cp "$here/$1.txt" "$stamps/$1.txt"
}

install_project() {
    cmp -s "$top/pyproject.toml" "$stamps/pyproject.toml" && return 0
    say "Installing the project (editable)"
    quietly "$python" -m pip install --quiet --no-input --no-index --no-deps --no-build-isolation -e "$top" ||
        fail "pip could not install the project (see above)."
    cp "$top/pyproject.toml" "$stamps/pyproject.toml"
}

# One set-up at a time; the lock is the folder of this script, and ends with the process.
if command -v flock >/dev/null 2>&1; then
    exec 9<"$here"
    flock -n 9 || {
        say "Waiting for another set-up of .venv to end"
        flock 9
    }
fi

venv_is_current || make_venv
install_requirements build
install_project
for name in "$@"; do install_requirements "$name"; done
