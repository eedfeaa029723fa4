#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install holdfast-agent from this folder on a Linux that has no package of it. Needs nothing but a shell and coreutils.
set -eu

usage='Usage: ./install.sh [--prefix DIR] [--uninstall]

Copies holdfast-agent to DIR/sbin (DIR: /usr/local), and where there is systemd a unit that starts it once the machine is
enrolled; its manual page and what completes its commands in bash, zsh and fish go below DIR/share, if that can be written.
--uninstall removes them; the key of an enrolled machine stays.'

fail() {
	echo "install.sh: $*" >&2
	exit 1
}

prefix=/usr/local
uninstall=
while [ $# -gt 0 ]; do
	case $1 in
	--prefix)
		[ $# -ge 2 ] || fail '--prefix needs a directory'
		prefix=$2
		shift
		;;
	--uninstall) uninstall=yes ;;
	-h | --help)
		echo "$usage"
		exit 0
		;;
	*)
		echo "$usage" >&2
		exit 2
		;;
	esac
	shift
done

here=$(cd "$(dirname "$0")" && pwd)
state=/var/lib/holdfast-agent
units=/etc/systemd/system
unit=$units/holdfast-agent.service
program=$prefix/sbin/holdfast-agent
page=$prefix/share/man/man8/holdfast-agent.8
bash=$prefix/share/bash-completion/completions/holdfast-agent
zsh=$prefix/share/zsh/site-functions/_holdfast-agent
fish=$prefix/share/fish/vendor_completions.d/holdfast-agent.fish

[ "$(id -u)" = 0 ] || fail 'must be run as root'

has_systemd() {
	[ -d /run/systemd/system ]
}

# systemd 219 of CentOS 7 takes a set of system calls that it does not know for an empty one: nothing would be allowed.
unit_for_this_systemd() {
	version=$(systemctl --version | sed -n '1s/[^0-9]*\([0-9]*\).*/\1/p')
	if [ "${version:-0}" -ge 240 ]; then
		cat
	else
		sed '/^SystemCall/d'
	fi
}

# Standard input becomes a file that one can do without.
put() {
	mkdir -p "${1%/*}" && cat >"$1" || echo "install.sh: goes on without $1" >&2
}

if [ -n "$uninstall" ]; then
	if has_systemd && [ -e "$unit" ]; then
		systemctl disable --now holdfast-agent || systemctl stop holdfast-agent || true
	fi
	rm -f "$program" "$unit" "$page" "$bash" "$zsh" "$fish"
	if has_systemd; then systemctl daemon-reload; fi
	if [ -d "$state" ]; then
		echo "$state stays, with the key that the staging server knows this machine by; to forget it: rm -r $state"
	fi
	exit 0
fi

[ "$(uname -m)" = x86_64 ] || fail "this program is for x86_64, and this machine is $(uname -m)"
umask 022
mkdir -p "${program%/*}"
# By another name first: a program that runs cannot be written over.
cp "$here/holdfast-agent" "$program.new"
chmod 0755 "$program.new"
mv -f "$program.new" "$program"
"$program" --version
if has_systemd; then
	sed "s|/usr/sbin/|$prefix/sbin/|" "$here/holdfast-agent.service" | unit_for_this_systemd >"$unit"
	systemctl daemon-reload
	systemctl enable holdfast-agent
	systemctl try-restart holdfast-agent || true
	after='systemctl start holdfast-agent'
	running='was started anew'
else
	after="$program run    # and have your init start that at boot"
	running='is still the one before: end it'
fi
put "$page" <"$here/holdfast-agent.8"
"$program" completion bash | put "$bash"
"$program" completion zsh | put "$zsh"
"$program" completion fish | put "$fish"
if [ -e "$state/agent.json" ]; then
	echo "This machine is enrolled. An agent that runs $running; to start one:"
	echo "  $after"
	exit 0
fi
echo "Next, on the staging server: holdfastctl token create; here, as root, the line it prints (where sudo does not look into"
echo "${program%/*}, as on CentOS, it begins: sudo $program enroll), and then:"
echo "  $after"
