# What it does, as root: fetches the program from this portal and compares its checksum; unpacks it under /opt/wardgate;
# keeps the token in /etc/wardgate (readable by root only); adds a systemd service and starts it.
#
#   sh @PART@.sh               install, or upgrade what is installed: token and settings stay
#   sh @PART@.sh --uninstall   remove all of it
#
# The token comes from the variable WARDGATE_TOKEN, from a file that WARDGATE_TOKEN_FILE names, or is asked for.

home=/opt/wardgate
settings=/etc/wardgate
link=/usr/local/bin/wardgate
unit=wardgate-$part.service
unit_file=/etc/systemd/system/$unit
token_file=$settings/$part-token
env_file=$settings/$part.env
draft=
terminal=

main() {
    case "${1:-}" in
        '') ;;
        --uninstall) ;;
        --help | -h) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    [ "$(id -u)" = 0 ] || fail 'run it as root, such as with sudo'
    if [ "${1:-}" = --uninstall ]; then
        if [ -e "/lib/systemd/system/$unit" ] && [ ! -e "$unit_file" ]; then
            fail "the $part is a Debian package here: apt-get purge wardgate-$part"
        fi
        uninstall
        exit 0
    fi
    if [ -e /usr/lib/wardgate/bin/wardgate ]; then
        fail "Wardgate is installed as a Debian package here: apt-get install wardgate-$part"
    fi
    for tool in tar gzip sha256sum sed readlink mktemp; do
        command -v "$tool" >/dev/null || fail "the command $tool is missing: install it first"
    done
    trap clean_up EXIT
    trap 'exit 130' HUP INT TERM
    mkdir -p "$home" "$settings"
    take_program
    before=$(told)
    take_token
    take_settings
    check
    if [ -e "$token_file.draft" ]; then mv "$token_file.draft" "$token_file"; fi
    getent group wardgate >/dev/null || groupadd --system wardgate
    ln -sfn "$program" "$home/current"
    ln -sfn "$home/current/bin/wardgate" "$link"
    start
    forget_former_programs
}

usage() {
    echo "usage: sh $part.sh [--uninstall]    (as root; installs or upgrades the Wardgate $part $version from $portal)"
}

take_program() {
    machine=$(uname -m)
    found=$(echo "$builds" | sed -n "s/^$machine //p")
    if [ -z "$found" ]; then
        fail "the portal has no build for this machine ($machine): its administrator puts" \
            "wardgate-$version-$machine.tar.gz (\`make packages\`) into $builds_directory there"
    fi
    checksum=${found%% *}
    archive=${found##* }
    program=$home/${archive%.tar.gz}-$(echo "$checksum" | cut -c 1-12)
    if [ ! -x "$program/bin/wardgate" ]; then
        draft=$(mktemp -d "$home/.draft.XXXXXX")
        say "fetching $archive"
        download "$portal/install/$archive" "$draft/$archive"
        echo "$checksum  $draft/$archive" | sha256sum -c - >/dev/null 2>&1 ||
            fail "$archive does not have the checksum that this script was made with: try again, and tell" \
                'the administrator of the portal if that does not help'
        # Of a line for each file that finds no room, one tells enough; the last says only that there were some.
        said=$(tar -xzf "$draft/$archive" -C "$draft" --no-same-owner 2>&1) ||
            fail "cannot unpack $archive under $home: $(echo "$said" | tail -n 2 | head -n 1)"
        "$draft/${archive%.tar.gz}/bin/wardgate" --version >/dev/null ||
            fail 'the program does not run here: it needs a Linux with a C library (glibc) as new as that of its build'
        chmod 755 "$draft/${archive%.tar.gz}"
        mv "$draft/${archive%.tar.gz}" "$program"
    fi
}

download() {
    if command -v curl >/dev/null; then
        curl -fsSL -o "$2" "$1" || fail "cannot fetch $1"
    elif command -v wget >/dev/null; then
        wget -q -O "$2" "$1" || fail "cannot fetch $1"
    else
        fail 'neither curl nor wget is here: install one of them first'
    fi
}

take_token() {
    if [ -n "${WARDGATE_TOKEN:-}" ]; then
        token=$WARDGATE_TOKEN
    elif [ -n "${WARDGATE_TOKEN_FILE:-}" ]; then
        token=$(cat "$WARDGATE_TOKEN_FILE") || fail "cannot read $WARDGATE_TOKEN_FILE"
    elif [ -s "$token_file" ]; then
        return
    else
        ask_for_token
    fi
    [ -n "$token" ] || fail 'there is no token'
    # It takes the place of the former one when it has been looked at: a wrong one is asked for again.
    (umask 077 && printf '%s\n' "$token" >"$token_file.draft")
}

ask_for_token() {
    # The standard input may be this script.
    if ! (: </dev/tty) 2>/dev/null; then
        fail "a $part needs a token: set WARDGATE_TOKEN_FILE to a file with it, and run this again"
    fi
    if [ "$part" = client ]; then
        say "open $portal/?as=headless-client in a browser, sign in, and copy the token that you are shown"
    fi
    printf 'Token: ' >/dev/tty
    terminal=$(stty -g </dev/tty)
    stty -echo </dev/tty
    read -r token </dev/tty || token=
    stty "$terminal" </dev/tty
    terminal=
    printf '\n' >/dev/tty
}

take_settings() {
    [ -e "$env_file" ] || (umask 077 && : >"$env_file")
    set_variable WARDGATE_API_URL "$api_url"
    if [ "$part" = relay ]; then
        if [ -n "${WARDGATE_PUBLIC_IP4_ADDR:-}" ]; then
            set_variable WARDGATE_PUBLIC_IP4_ADDR "$WARDGATE_PUBLIC_IP4_ADDR"
        fi
        if [ -n "${WARDGATE_PUBLIC_IP6_ADDR:-}" ]; then
            set_variable WARDGATE_PUBLIC_IP6_ADDR "$WARDGATE_PUBLIC_IP6_ADDR"
        fi
        grep -q '^WARDGATE_PUBLIC_IP[46]_ADDR=.' "$env_file" ||
            fail 'a relay needs its public address: set WARDGATE_PUBLIC_IP4_ADDR or WARDGATE_PUBLIC_IP6_ADDR, and run this again'
    fi
    if [ -n "${WARDGATE_NAME:-}" ]; then
        set_variable WARDGATE_NAME "$WARDGATE_NAME"
    fi
}

# What a running service has been told; only a restart tells it anew.
told() {
    { cat "$token_file" "$env_file" 2>/dev/null || :; } | sort | cksum
}

# Replace one line of the service's environment; what an administrator wrote beside it stays.
set_variable() {
    (umask 077 && { grep -v "^$1=" "$env_file" || :; printf '%s=%s\n' "$1" "$2"; } >"$env_file.draft")
    mv "$env_file.draft" "$env_file"
}

check() {
    # The settings are read as the service will read them, in a process of their own.
    (
        while IFS= read -r line; do
            case $line in [A-Z]*=*) export "${line?}" ;; esac
        done <"$env_file"
        WARDGATE_TOKEN_FILE=$token_file
        if [ -e "$token_file.draft" ]; then WARDGATE_TOKEN_FILE=$token_file.draft; fi
        WARDGATE_LOG_LEVEL=${WARDGATE_LOG_LEVEL:-warning}
        export WARDGATE_TOKEN_FILE WARDGATE_LOG_LEVEL
        unset WARDGATE_TOKEN
        "$program/bin/wardgate" "$part" --check >/dev/null
    ) || fail "nothing was started; mend that and run this again"
}

start() {
    if [ ! -d /run/systemd/system ]; then
        say "installed. No systemd runs here; start the $part with:"
        echo "  sudo WARDGATE_TOKEN_FILE=$token_file WARDGATE_API_URL=$api_url$(other_settings) $link $part"
        return
    fi
    sed "s#/usr/bin/wardgate#$home/current/bin/wardgate#" "$home/current/share/systemd/$unit" >"$unit_file"
    systemctl daemon-reload
    systemctl enable --quiet "$unit"
    if [ "$(told)" = "$before" ]; then
        # Hand over to the new program without a gap, where the part can.
        systemctl reload-or-restart --no-block "$unit"
    else
        systemctl restart --no-block "$unit"
    fi
    tries=0
    until systemctl is-active --quiet "$unit"; do
        tries=$((tries + 1))
        if systemctl is-failed --quiet "$unit" || [ "$tries" -gt 30 ]; then
            fail "the $part is installed, and does not get to the portal yet; it keeps trying. Why: journalctl -u $unit"
        fi
        sleep 1
    done
    say "the $part runs (systemctl status $unit)"
}

other_settings() {
    sed -n '/^WARDGATE_API_URL=/d; /^WARDGATE_/s/^/ /p' "$env_file" | tr -d '\n'
}

# What a process still runs from stays until the next time: another part's, or one that is just handing over.
forget_former_programs() {
    for former in "$home"/wardgate-*; do
        [ "$former" = "$(readlink -f "$home/current")" ] || is_running "$former" || rm -rf "$former"
    done
}

is_running() {
    for process in /proc/[0-9]*; do
        case $(readlink "$process/exe") in "$1"/*) return 0 ;; esac
    done 2>/dev/null
    return 1
}

uninstall() {
    if [ -d /run/systemd/system ] && [ -e "$unit_file" ]; then
        systemctl disable --now --quiet "$unit" || :
    fi
    rm -f "$unit_file" "$token_file" "$env_file"
    rm -rf "/var/lib/wardgate-$part" "/var/lib/private/wardgate-$part" "/run/wardgate-$part"
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        systemctl reset-failed "$unit" 2>/dev/null || :
    fi
    for other in client gateway relay; do
        if [ -e "$settings/$other-token" ]; then
            say "the $part is removed; the program stays for the $other"
            return
        fi
    done
    rm -rf "$home" "$link"
    rmdir "$settings" 2>/dev/null || :
    if getent group wardgate >/dev/null && [ ! -e /usr/lib/wardgate ]; then groupdel wardgate; fi
    say "the $part is removed"
}

clean_up() {
    if [ -n "$terminal" ]; then stty "$terminal" </dev/tty; fi
    rm -rf ${draft:+"$draft"} "$token_file.draft" "$env_file.draft"
}

say() { echo "wardgate: $*"; }

fail() {
    echo "wardgate: $*" >&2
    exit 1
}

# Last, so that half a script does nothing.
main "$@"
