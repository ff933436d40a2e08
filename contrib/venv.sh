# Sourced by contrib/run and tests/run, which set `root` to the checkout. Makes $root/.venv with the package in it.
# PYTHON names the interpreter (default python3). Nothing is installed outside .venv but, where they are missing,
# Debian packages, as root or by sudo.

say() { printf '%s\n' "gfastcgi: $*" >&2; }
die() { say "$@"; exit 1; }

# as_root COMMAND...: runs it as root; false where nobody may.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo -n "$@"
    elif command -v sudo >/dev/null && [ -t 0 ] && [ -t 2 ]; then sudo "$@"
    else return 1
    fi
}

# apt_install PACKAGE...: installs what is missing of it, or says exactly what to do.
apt_install() {
    missing=
    for package in "$@"; do
        case "$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null)" in
            *" installed") ;;
            *) missing="$missing $package" ;;
        esac
    done
    [ -n "$missing" ] || return 0
    command="apt-get install --no-install-recommends$missing"
    command -v apt-get >/dev/null || { say "missing:$missing (as Debian names them); install them and come back"; return 1; }
    say "installing$missing"
    log=$(mktemp)
    # shellcheck disable=SC2086  # the names are words
    if as_root sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -yqq --no-install-recommends "$@"' \
        apt $missing >"$log" 2>&1; then
        rm -f "$log"
    else
        cat "$log" >&2; rm -f "$log"
        say "missing:$missing"
        say "to install them, as root: $command"
        return 1
    fi
}

# make_venv [EXTRA]: .venv with the package, editable, and the extra's dependencies; made again when pyproject.toml changes.
make_venv() {
    python=${PYTHON:-python3}
    command -v "$python" >/dev/null || die "no $python here; name a Python >= 3.10 by PYTHON="
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "$python is older than Python 3.10; name another by PYTHON="
    stamp="$root/.venv/installed-${1:-run}"
    wanted="$("$python" -c 'import sys; print(sys.version)' | tr '\n' ' ') $(cksum <"$root/pyproject.toml") $root"
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && "$root/.venv/bin/python" -c 'import gfastcgi' 2>/dev/null && return 0
    if ! "$root/.venv/bin/python" -m pip --version >/dev/null 2>&1; then
        "$python" -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv || exit 1
        say "making $root/.venv"
        "$python" -m venv --clear "$root/.venv" || die "cannot make a virtual environment with $python"
    fi
    say "installing the package${1:+ with what its tests need} into .venv"
    "$root/.venv/bin/python" -m pip install -q --disable-pip-version-check -e "$root${1:+[$1]}" || die "pip failed, see above"
    for name in run ${1:-}; do printf '%s\n' "$wanted" >"$root/.venv/installed-$name"; done
}
