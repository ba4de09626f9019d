#!/usr/bin/env bash
# Starts three nodes of one cluster on this machine, each a process with a
# folder of its own in a temporary place, says what to try, and ends them and
# removes everything with Ctrl-C. usage: cluster.sh BINARY [FIRST-PORT]
set -euo pipefail
program=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
first=${2:-8200}
dir=$(mktemp -d)
export XDG_CONFIG_HOME=$dir/config
unset CLOAKROOM_ADDR CLOAKROOM_OPERATOR_ADDR CLOAKROOM_TOKEN_FILE CLOAKROOM_FINGERPRINT CLOAKROOM_CACERT

finish() {
  trap - EXIT INT TERM
  echo 'Stopping the nodes…'
  local pids=()
  for i in 3 2 1; do
    if [[ -f $dir/n$i.pid ]]; then pids+=("$(<"$dir/n$i.pid")"); fi
  done
  kill "${pids[@]}" 2>/dev/null || true
  for _ in {1..100}; do # some may be started by hand, and no child of this script
    kill -0 "${pids[@]}" 2>/dev/null || break
    sleep 0.1
  done
  rm -rf "$dir"
}
trap finish EXIT
trap 'exit 0' INT TERM

cd "$dir"
mkdir bin
ln -s "$program" bin/cloakroom
for i in 1 2 3; do
  port=$((first + 10 * (i - 1)))
  cat > n$i.yaml <<END
node:     { name: n$i, data: n$i }
api:      { listen: 127.0.0.1:$port }
operator: { listen: 127.0.0.1:$((port + 1)) }
cluster:  { listen: 127.0.0.1:$((port + 2)) }
recovery: { mode: none }
memory:   { limit: 1GiB }
END
done

# start NAME [ARG…]: runs a node and waits until it answers.
start() {
  local name=$1
  shift
  "$program" node run --config "$name.yaml" "$@" > "$name.out" 2> "$name.log" &
  echo $! > "$name.pid"
  for _ in {1..300}; do
    if grep -q ready "$name.out"; then return; fi
    if ! kill -0 "$(<"$name.pid")" 2>/dev/null; then break; fi
    sleep 0.1
  done
  echo "$name did not get ready:" >&2
  tail -n 5 "$name.log" >&2
  exit 1
}

"$program" node init --config n1.yaml --single-person --print-secrets --out init > init.txt
start n1
operator=127.0.0.1:$((first + 1))
"$program" join-token create --addr "$operator" --token-file init/operator.token --count 2 --out join.token > /dev/null
start n2 --join-token-file join.token.1
start n3 --join-token-file join.token.2
"$program" principals create app --addr "$operator" --token-file init/access.token --out app.token \
  --action deposit --action resolve --action read --action erase --all-fields > /dev/null

cat > env <<END
cd '$dir'
export XDG_CONFIG_HOME='$dir/config' CLOAKROOM_OPERATOR_ADDR='$operator' CLOAKROOM_TOKEN_FILE=init/operator.token
export PATH='$dir/bin':"\$PATH"
END
cat <<END
ready http://127.0.0.1:$first http://127.0.0.1:$((first + 10)) http://127.0.0.1:$((first + 20))

Three nodes run in $dir; their logs are n1.log, n2.log and n3.log there.
In another terminal:

  . $dir/env
  cloakroom status
  cloakroom nodes list
  echo '{"display_name":"Ada Lovelace"}' | cloakroom deposit --addr http://127.0.0.1:$first --token-file app.token
  cloakroom resolve ID --field display_name --addr http://127.0.0.1:$((first + 20)) --token-file app.token

  kill -9 \$(cat n2.pid)      # the others go on within a second or two
  cloakroom shards list
  cloakroom node run --config n2.yaml > n2.out 2> n2.log & echo \$! > n2.pid
  cloakroom nodes safe-to-stop n1

Ctrl-C here ends them all and removes the folder.
END
while [[ $(jobs -rp) ]]; do wait -n || true; done
echo 'No node is running any more.'
