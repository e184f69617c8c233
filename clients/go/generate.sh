#!/usr/bin/env bash
# Writes the Go messages of the .proto into sampler/. Needs protoc (or the Python package grpcio-tools), and the plugins
# protoc-gen-go and protoc-gen-go-grpc: Debian's packages of these names, or
#     go install google.golang.org/protobuf/cmd/protoc-gen-go@latest google.golang.org/grpc/cmd/protoc-gen-go-grpc@latest
set -euo pipefail
cd "$(dirname "$0")"

proto=${PROTO:-../../proto}
protoc=(protoc)
command -v protoc >/dev/null || protoc=("${PYTHON:-../../.venv/bin/python}" -m grpc_tools.protoc)
mapping=Mganvas/v1/sampler.proto=ganvas/example/sampler
"${protoc[@]}" -I "$proto" \
    --go_out=. --go_opt=module=ganvas/example,$mapping \
    --go-grpc_out=. --go-grpc_opt=module=ganvas/example,$mapping \
    ganvas/v1/sampler.proto
