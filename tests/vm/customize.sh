#!/bin/sh
# Turns a fresh root file system into the test machine's: called by mmdebstrap as its customize hook.
#   customize.sh ROOT    with REPO (a checkout) and CA (the machine's certificates, or nothing) in the environment
set -eu
root=$1
here=$(cd "$(dirname "$0")" && pwd)

echo "/dev/vda / ext4 defaults 0 1" > "$root/etc/fstab"
echo "testhost" > "$root/etc/hostname"
printf '127.0.0.1 localhost testhost\n' > "$root/etc/hosts"
chroot "$root" passwd -d root > /dev/null
chroot "$root" useradd --create-home --shell /bin/sh somebody

# The door for the tests: runs commands that come over a virtio port, outside of every fleet.
install -D -m 755 "$here/door.py" "$root/opt/test/door.py"
cat > "$root/etc/systemd/system/test-door.service" <<'UNIT'
[Unit]
Description=Runs the tests' commands
DefaultDependencies=yes
After=local-fs.target

[Service]
ExecStart=/usr/bin/python3 -u /opt/test/door.py
Restart=always
TasksMax=infinity

[Install]
WantedBy=multi-user.target
UNIT
chroot "$root" systemctl enable --quiet test-door.service
# Nothing here has a network; what waits for one or for a clock is not started.
chroot "$root" systemctl mask --quiet apt-daily.timer apt-daily-upgrade.timer systemd-timesyncd.service \
    dpkg-db-backup.timer e2scrub_all.timer fstrim.timer systemd-networkd-wait-online.service

# The dependencies of the requirements, where the clone will be. The clone itself is made anew in each test.
git clone --quiet --no-hardlinks "$REPO" "$root/srv/sutazai"
settings="UV_CACHE_DIR=/tmp/uv HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin"
certificates="$root/etc/ssl/certs/ca-certificates.crt"
if [ -n "${CA:-}" ]; then
    cp "$certificates" "$root/tmp/own.crt"
    cp "$CA" "$certificates"
    settings="$settings PIP_CERT=/etc/ssl/certs/ca-certificates.crt SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"
fi
for name in PIP_INDEX_URL UV_DEFAULT_INDEX http_proxy https_proxy; do
    value=$(printenv "$name" || true)
    [ -z "$value" ] || settings="$settings $name=$value"
done
# shellcheck disable=SC2086 the settings are words
chroot "$root" env -i $settings /srv/sutazai/scripts/bootstrap base llm data
if [ -n "${CA:-}" ]; then mv "$root/tmp/own.crt" "$certificates"; fi
mkdir -p "$root/srv/kept"
mv "$root/srv/sutazai/.venv" "$root/srv/kept/.venv"
rm -rf "$root/srv/sutazai" "$root/tmp/uv" "$root/root/.cache"
