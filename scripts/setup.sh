#!/usr/bin/env bash
# Makes .venv, in the part that is asked for; each has all of the one before it:
#   scripts/setup.sh light    the harness, and a Vulkan driver where the machine has none that suits: enough for models
#                             that are files (`make setup`)
#   scripts/setup.sh convert  and what converts SAM 2.1 here: PyTorch's CPU build, litert-torch, transformers
#   scripts/setup.sh all      and what the tests need: Java and npm, all extras (`make develop`)
#
# Safe to run again: what is already there is left alone, and a run with nothing to do takes about a second.
# PYTHON=python3.12           which Python makes .venv (default: the first that is 3.11 or newer)
# HARNESS_LOCK=no             the newest of every package instead of the releases in requirements/locked.txt
# HARNESS_TORCH='torch>=2.13' another PyTorch than the one this was tested with
# HARNESS_TORCH_BUILD=any     whichever build pip takes by itself, for Linux mostly the one for CUDA, several GB
# HARNESS_SYSTEM_PACKAGES=no  never install system packages
set -euo pipefail

PART="${1:-light}"
case "$PART" in
light) STEPS=4 ;;
convert) STEPS=6 ;;
all) STEPS=7 ;;
*)
    printf 'setup: there is no part %q: light, convert or all\n' "$PART" >&2
    exit 2
    ;;
esac

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"
PY="$VENV/bin/python"
LOG="$VENV/setup.log"
STAMP="$VENV/.setup-stamp"
TORCH="${HARNESS_TORCH:-torch==2.13.0}"
LOCKED="$ROOT/requirements/locked.txt"
LOCK="$VENV/.locked.txt" # the part of it that holds
case "$PART" in light) TARGET=setup ;; convert) TARGET=demo ;; all) TARGET=develop ;; esac
MESA_NEEDED=23.1 # Dawn refuses older Mesa: "Vulkan shaderUniform*ArrayDynamicIndexing required"
step=0
say() { printf '%s\n' "$*"; }

# die SENTENCE: the last lines of the log, what failed, and what to do about it.
die() {
    if [[ -s "$LOG" ]]; then
        printf '\n--- the last lines of %s ---\n' "$LOG" >&2
        tail -n 20 "$LOG" >&2
        printf -- '---\n' >&2
    fi
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# Another checkout's is not ours to change.
if [[ -L "$VENV" ]]; then
    LOG=/dev/null
    die ".venv is a link to $(readlink -f "$VENV"): remove it (rm .venv), and setup makes one of its own"
fi

# begin WHAT: announces the next step.
begin() {
    step=$((step + 1))
    say "[$step/$STEPS] $1"
}

# quietly COMMAND...: runs it into the log, with a clock where someone watches; passes its exit status on.
quietly() {
    local start=$SECONDS pid status=0
    printf '\n$ %s\n' "$*" >>"$LOG"
    "$@" >>"$LOG" 2>&1 </dev/null &
    pid=$!
    trap 'kill "$pid" 2>/dev/null; exit 130' INT TERM
    if [[ -t 1 ]]; then
        while kill -0 "$pid" 2>/dev/null; do
            printf '\r      %ds' $((SECONDS - start))
            sleep 1
        done
        printf '\r\033[K'
    fi
    wait "$pid" || status=$?
    trap - INT TERM
    ((status == 0 && SECONDS - start < 2)) || say "      $((SECONDS - start)) s"
    return "$status"
}

as_root() { if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi; }

# may_install WHAT: whether system packages can be installed here; says why when they cannot.
may_install() {
    if [[ "${HARNESS_SYSTEM_PACKAGES:-yes}" == no ]]; then
        say "      not installing $1: HARNESS_SYSTEM_PACKAGES=no"
    elif ! command -v apt-get >/dev/null; then
        say "      no apt-get here: please install $1 with this system's package manager"
    elif ((EUID != 0)) && ! { command -v sudo >/dev/null && sudo -v; }; then
        say "      neither root nor sudo: please have $1 installed"
    else
        return 0
    fi
    return 1
}

apt_get() {
    quietly as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y -o DPkg::Lock::Timeout=300 -o APT::Keep-Downloaded-Packages=false "$@"
}

# One stale source of many must not stop us: a package that is then missing is told of when it is needed.
refresh_apt() { apt_get update || say "      apt-get update had trouble (.venv/setup.log); going on"; }

python_suits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if python_suits "$candidate"; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

make_venv() {
    local base made_for
    made_for="$(cat "$VENV/.made-for" 2>/dev/null || true)"
    if "$PY" -c 'import pip' 2>/dev/null && python_suits "$PY" && [[ "${made_for:-$ROOT}" == "$ROOT" ]]; then
        return 0
    fi
    if ! base="$(find_python)" || ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
        say "      Python's venv module is missing: installing python3 and python3-venv"
        may_install "Python 3.11 or newer with its venv module" || die "no Python 3.11 or newer that can make a venv"
        refresh_apt
        apt_get install --no-install-recommends python3 python3-venv || die "apt-get could not install python3-venv"
        base="$(find_python)" || die "Python is older than 3.11: install a newer one, then PYTHON=python3.12 make $TARGET"
    fi
    # A folder that was moved or copied here has the old place written into its scripts: start afresh.
    "$base" -m venv --clear "$VENV" || die "$base -m venv failed: try PYTHON=python3.12 make $TARGET"
    printf '%s\n' "$ROOT" >"$VENV/.made-for"
}

# What apt would install, as its version; empty when it knows no such package.
candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: //p'; }

# One "codename<TAB>component<TAB>uri" line for each source apt is configured with, whichever file format it is in.
apt_sources() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(CODENAME)	$(COMPONENT)	$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | sort -u
}

enable_backports() {
    local codename="$1" uri file=/etc/apt/sources.list.d/harness-backports.list
    if apt_sources | cut -f1 | grep -qx "$codename-backports"; then return 0; fi
    uri="$(apt_sources | awk -F'\t' -v c="$codename" '$1 == c && $2 == "main" { print $3; exit }')"
    [[ -n "$uri" ]] || die "apt has no mirror for $codename: add $codename-backports to its sources by hand, then make $TARGET"
    say "      adding $codename-backports from the mirror apt uses already: $file"
    printf 'deb %s %s-backports main\n' "$uri" "$codename" | as_root tee "$file" >/dev/null
    refresh_apt
    if ! apt_sources | cut -f1 | grep -qx "$codename-backports"; then
        as_root rm -f "$file"
        die "the mirror $uri has no $codename-backports; the source was taken out again"
    fi
}

install_vulkan() {
    local offered codename from_backports=()
    may_install "a Vulkan driver (Mesa $MESA_NEEDED or newer; Debian: mesa-vulkan-drivers)" || return 0
    refresh_apt
    offered="$(candidate mesa-vulkan-drivers)"
    if ! dpkg --compare-versions "${offered:-0}" ge "$MESA_NEEDED"; then
        codename="$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)"
        if ! grep -qx 'ID=debian' /etc/os-release || [[ -z "$codename" ]]; then
            say "      this system offers Mesa ${offered:-(none)}, too old: please install a newer Vulkan driver"
            return 0
        fi
        enable_backports "$codename"
        from_backports=(-t "$codename-backports")
    fi
    apt_get install --no-install-recommends "${from_backports[@]}" mesa-vulkan-drivers libvulkan1 ||
        die "apt-get could not install the Vulkan driver"
}

# The tests build the phone's app for this machine's Java, with the Kotlin compiler from npm; nothing else needs these.
install_standin_tools() {
    local lacking=()
    command -v java >/dev/null || lacking+=(default-jre-headless)
    command -v npm >/dev/null || lacking+=(npm)
    ((${#lacking[@]} > 0)) || return 0
    may_install "${lacking[*]}" || return 0
    refresh_apt
    apt_get install --no-install-recommends "${lacking[@]}" ||
        say "      apt-get could not install ${lacking[*]} (.venv/setup.log): the stand-in's tests will say so"
}

# The releases to install: all that were tested together, without PyTorch's where another was asked for.
choose_releases() {
    if [[ "${HARNESS_LOCK:-yes}" == no ]]; then
        : >"$LOCK"
    elif [[ -n "${HARNESS_TORCH:-}" ]]; then
        grep -vE '^(torch|triton|cuda-|nvidia-)[a-z0-9-]*==' "$LOCKED" >"$LOCK"
    else
        cp "$LOCKED" "$LOCK"
    fi
}

# Sets `build` to which build of PyTorch pip would take (scripts/torch_build.py).
find_build() {
    local offered="$VENV/.torch-offered"
    build="$("$PY" "$ROOT/scripts/torch_build.py" "$TORCH" </dev/null 2>>"$LOG")" && return 0 # it is there
    printf '\n$ pip index versions torch\n' >>"$LOG"
    "$PY" -m pip index versions torch >"$offered" 2>>"$LOG" </dev/null ||
        die "pip could not list the releases of PyTorch: HARNESS_TORCH_BUILD=any make $TARGET installs what it takes unasked"
    build="$("$PY" "$ROOT/scripts/torch_build.py" "$TORCH" <"$offered" 2>>"$LOG")"
}

# The index that pip asks has one build of a release for each system, and Linux's is for CUDA. uv, another client for the
# same packages, knows where PyTorch keeps the others. It is put beside .venv's packages and taken away again.
install_cpu_build() {
    local uv
    rm -rf "$VENV/.uv" # of a run that was killed here
    uv="$(command -v uv || true)"
    if [[ -z "$uv" ]] || ! "$uv" pip install --help 2>/dev/null | grep -q -- --torch-backend; then
        quietly "$PY" -m pip install --target "$VENV/.uv" "uv>=0.9" || return 1
        uv="$VENV/.uv/bin/uv"
    fi
    quietly env UV_HTTP_TIMEOUT=20 UV_HTTP_RETRIES=1 UV_SYSTEM_CERTS=1 \
        "$uv" pip install --python "$PY" --no-deps --torch-backend cpu "$TORCH"
}

install_torch() {
    local build status=0
    if [[ "${HARNESS_TORCH_BUILD:-cpu}" != any ]]; then
        find_build ||
            die "pip finds no $TORCH: HARNESS_TORCH='torch>=2.13' make $TARGET takes another release"
        if [[ "$build" == unmarked && "$(uname -s)" == Linux ]]; then
            say "      pip would take the build for CUDA: uv is asked for the CPU build"
            install_cpu_build || status=$?
            rm -rf "$VENV/.uv"
            if ((status != 0)) && [[ "$PART" == convert ]]; then
                die "the CPU build of $TORCH cannot be had here. HARNESS_TORCH_BUILD=any make demo takes the one for CUDA" \
                    "(3 GB to download, 7 GB on disk); with MODELS=FOLDER, published files, no PyTorch is needed"
            fi
            ((status == 0)) || say "      it cannot be had here: going on with the build for CUDA, 3 GB to download"
        fi
    fi
    quietly "$PY" -m pip install -c "$LOCK" "$TORCH" ||
        die "pip could not install $TORCH: HARNESS_TORCH='torch>=2.13' make $TARGET takes another release"
}

# install EXTRAS: the harness with these extras, as in [sam2], or with none.
install() {
    quietly "$PY" -m pip install -c "$LOCK" -e "${ROOT}$1" ||
        die "pip could not install the project: make $TARGET resumes, HARNESS_LOCK=no make $TARGET takes the newest packages"
}

# has_part PART: whether .venv has it, as the second line of the stamp says: "light", or "convert" or "all" and for which
# PyTorch. A larger part has the smaller ones in it, and PyTorch is nothing to the light one.
has_part() {
    [[ "$(sed -n 1p "$STAMP" 2>/dev/null)" == "$want" ]] && "$PY" -c '' 2>/dev/null || return 1
    case "$1 $(sed -n 2p "$STAMP")" in
    light\ ?*) return 0 ;;
    "convert convert $TORCH" | "convert all $TORCH" | "all all $TORCH") return 0 ;;
    *) return 1 ;;
    esac
}

# stamp WORDS: from now on .venv has that part.
stamp() { printf '%s\n%s\n' "$want" "$1" >"$STAMP"; }

# The adapters found, one per line; true when one of them suits LiteRT's GPU delegate.
adapter() {
    if [[ "$(uname -s)" == Darwin ]]; then
        say "macOS: the GPU delegate uses Metal"
    else
        "$PY" "$ROOT/scripts/vulkan_adapter.py" 2>>"$LOG"
    fi
}

mkdir -p "$VENV"
if command -v flock >/dev/null; then # one setup at a time in a checkout
    exec 9<"$ROOT/scripts/setup.sh"
    flock 9
fi
want="$(cat "$ROOT/pyproject.toml" "$ROOT/scripts/setup.sh" "$LOCKED" | cksum) $ROOT ${HARNESS_LOCK:-yes}"
installed=no light=no
if has_part "$PART"; then installed=yes; fi
if has_part light; then light=yes; fi
if [[ "$installed" == yes ]] && adapter >/dev/null; then exit 0; fi

begin "Python environment: .venv"
: >"$LOG"
make_venv
say "      $("$PY" --version) in .venv; details go to .venv/setup.log"

begin "Vulkan driver, for LiteRT's GPU delegate without a phone (about a minute if one is needed)"
if ! adapter >/dev/null; then install_vulkan; fi
if found="$(adapter)"; then
    say "      ${found%%$'\n'*}"
else
    say "      ${found:-the adapter check crashed}"
    say "      GPU runs on this host will be refused until there is a suitable adapter; the rest works"
fi
if [[ "$installed" == yes ]]; then exit 0; fi
# From here on packages change; those of the light part do not, where it is there.
if [[ "$light" == yes ]]; then stamp light; else rm -f "$STAMP"; fi

if [[ "$PART" == all ]]; then
    begin "Java and npm, for the phone's stand-in in the tests"
    install_standin_tools
    say "      $(command -v java || echo 'no java'), $(command -v npm || echo 'no npm')"
fi

begin "the harness$([[ "$light" == yes ]] && echo ": it is there" || echo ": 0.12 GB to download (half a minute)")"
choose_releases
if [[ "$light" == no ]]; then
    install ""
    stamp light
fi

if [[ "$PART" != light ]]; then
    begin "PyTorch's CPU build ($TORCH), to convert SAM 2.1: 0.2 GB to download, half a minute"
    install_torch
    if [[ "$PART" == convert ]]; then extras=sam2 size=0.3; else extras=sam2,model-explorer,farm,docs,dev size=0.5; fi
    begin "the extras ${extras//,/, }: $size GB to download (a minute or two)"
    install "[$extras]"
fi

begin "check that the installed packages agree with one another"
quietly "$PY" -m pip check || die "installed packages disagree: rm -r .venv, then make $TARGET"
if [[ "$PART" == light ]]; then stamp light; else stamp "$PART $TORCH"; fi
say "Ready: make demo, make test, or .venv/bin/harness --help"
