# For tests over `moiety serve`, to be sourced: a small model and a server of it, in $folder, which ends with the script.
folder=$(mktemp -d)
server=
end() {
  [[ -z $server ]] || kill "$server" 2> /dev/null || true
  rm -rf "$folder"
}
trap end EXIT

# make_model SOURCE_DIR POSITIONS: $folder/model, its tokenizer_config.json from standard input.
make_model() {
  cp -r "$1/tests/fixtures/models/mixtral/f32" "$folder/model"
  chmod -R u+w "$folder/model"
  sed -i -E "s/\"max_position_embeddings\": [0-9]+/\"max_position_embeddings\": $2/" "$folder/model/config.json"
  cat > "$folder/model/tokenizer_config.json"
}

# start_server MOIETY OPTION…: sets $url; what it says goes to $folder/log.
start_server() {
  local moiety=$1
  shift
  rm -f "$folder/log"  # an earlier server's address
  "$moiety" serve "$folder/model" --port 0 "$@" 2> "$folder/log" &
  server=$!
  url=
  for _ in {1..300}; do
    url=$(grep -oE 'is ready at http://127\.0\.0\.1:[0-9]+' "$folder/log" 2> /dev/null | grep -oE 'http.*' | head -n 1 || true)
    [[ -z $url ]] || return 0
    kill -0 "$server" 2> /dev/null || break
    sleep 0.1
  done
  echo "the server has not said where it listens"
  cat "$folder/log"
  exit 1
}

# As a person stops it: it must end well.
stop_server() {
  kill -TERM "$server"
  wait "$server" || { echo "the server ended with status $?"; exit 1; }
  server=
}
