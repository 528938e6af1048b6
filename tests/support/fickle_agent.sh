#!/bin/sh
# An ACP agent without a model, for the cases that a real one does not show on demand. What it does
# stands in the prompt, or in FICKLE for what comes before one.
say() { printf '%s\n' "$1"; }
update() { say '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s1","update":'"$1"'}}'; }
chunk() { update '{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"'"$1"'"}}'; }
answer() { say '{"jsonrpc":"2.0","id":'"$1"',"result":'"$2"'}'; }
refuse() { say '{"jsonrpc":"2.0","id":'"$1"',"error":'"$2"'}'; }
ask() { say '{"jsonrpc":"2.0","id":"q'"$1"'","method":"session/request_permission","params":{"sessionId":"s1","toolCall":{"toolCallId":"t'"$1"'","title":"touch it","kind":"execute","status":"pending"},"options":[{"optionId":"reject_once","name":"Yes","kind":"allow_once"},{"optionId":"allow_once","name":"No","kind":"reject_once"}]}}'; }
prompt=
while IFS= read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case $line in
    *'"method":"initialize"'*)
      case $FICKLE in
        old) answer "$id" '{"protocolVersion":7}' ;;
        *) say 'Welcome to the fickle agent!'
           answer "$id" '{"protocolVersion":1,"agentInfo":{"name":"fickle","version":"1"},"agentCapabilities":{"loadSession":true},"authMethods":[{"id":"k","name":"A key"}]}' ;;
      esac ;;
    *'"method":"session/new"'*)
      case $FICKLE in
        locked) refuse "$id" '{"code":-32000,"message":"Authentication required"}' ;;
        *) answer "$id" '{"sessionId":"s1"}' ;;
      esac ;;
    *'"method":"session/load"'*)
      chunk 'of old'
      answer "$id" '{}'
      chunk 'of old, late' ;;
    *'"method":"session/prompt"'*)
      prompt=$id
      case $line in
        *do:die*) chunk 'so far'; echo 'boom: no more' >&2; exit 7 ;;
        *do:mute*) chunk 'so far'; exec >&-; exec sleep 600 ;;
        *do:haunt*) chunk 'so far'; (while sleep 0.2; do say 'boo'; done) & exit 7 ;;
        *do:hang*) chunk 'so far' ;;
        *do:noise*) say 'not JSON {'; say '[1,2]'; say '{"jsonrpc":"2.0","method":"_x/y","params":{}}'
          say '{"jsonrpc":"2.0","id":"f1","method":"fs/read_text_file","params":{"sessionId":"s1","path":"/x"}}' ;;
        *do:flood*) n=0; while [ $n -lt 5000 ]; do chunk '.'; n=$((n+1)); done; answer "$id" '{"stopReason":"end_turn"}' ;;
        *do:long*) printf '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s1","update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"'
          head -c 20000000 /dev/zero | tr '\0' x; printf '"}}}}\n'; answer "$id" '{"stopReason":"end_turn"}' ;;
        *do:error*) refuse "$id" '{"code":-32603,"message":"Internal error","data":{"details":"429 Too Many Requests"}}' ;;
        *do:refusal*) answer "$id" '{"stopReason":"refusal"}' ;;
        *do:ask*) ask 1 ;;
        *do:again*) ask 3 ;;
        *) chunk 'yes'; answer "$id" '{"stopReason":"end_turn"}' ;;
      esac ;;
    *'"id":"f1"'*) case $line in *-32601*) chunk 'refused'; answer "$prompt" '{"stopReason":"end_turn"}' ;; esac ;;
    *'"id":"q1"'*|*'"id":"q3"'*) case $line in
        *'"optionId":"reject_once"'*) chunk 'allowed'; answer "$prompt" '{"stopReason":"end_turn"}' ;;
        *'"optionId":"allow_once"'*) chunk 'denied'; answer "$prompt" '{"stopReason":"end_turn"}' ;;
      esac ;;
    *'"id":"q2"'*) case $line in *'"outcome":"cancelled"'*) answer "$prompt" '{"stopReason":"cancelled"}' ;; esac ;;
    *'"method":"session/cancel"'*) ask 2 ;;
  esac
done
