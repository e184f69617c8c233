// Images of seeds, as PNG files, and the same image by its own latent.
//
//	./generate.sh && go mod tidy                                  once: the messages of the .proto, and grpc-go
//	go run ./cmd/sample 127.0.0.1:50051 digits-gan 3 14 159       writes 3.png, 14.png, 159.png
//
// With TLS and a key: GANVAS_TLS_CA=ca.pem GANVAS_API_KEY=… go run ./cmd/sample …
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"ganvas/example/latents"
	"ganvas/example/sampler"
)

const maxMessageBytes = 64 << 20

func main() {
	log.SetFlags(0)
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		log.Fatal(err) // rpc error: code = … desc = what is wrong, and what to do
	}
}

func run(address, model string, texts []string) error {
	seeds := make([]uint64, len(texts))
	for i, text := range texts {
		var err error
		if seeds[i], err = strconv.ParseUint(text, 10, 64); err != nil {
			return err
		}
	}
	connection, ctx, err := connect(address)
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client := sampler.NewSamplerClient(connection)

	pngs, err := client.Sample(ctx, &sampler.SampleRequest{Model: model, Seeds: seeds, Format: sampler.Format_FORMAT_PNG})
	if err != nil {
		return err
	}
	for _, image := range pngs.Images {
		if err := os.WriteFile(fmt.Sprintf("%d.png", image.Seed), image.Data, 0o644); err != nil {
			return err
		}
	}
	raw, err := client.Sample(ctx, &sampler.SampleRequest{Model: model, Seeds: seeds})
	if err != nil {
		return err
	}
	for _, image := range raw.Images {
		fmt.Printf("%d %x\n", image.Seed, sha256.Sum256(image.Data))
	}
	return compare(ctx, client, model, raw.Images)
}

// compare decodes the latents of images; where the model has no prior of its own, the bytes are the same.
func compare(ctx context.Context, client sampler.SamplerClient, model string, images []*sampler.Image) error {
	about, err := client.GetModel(ctx, &sampler.GetModelRequest{Model: model})
	if err != nil {
		return err
	}
	var certificate struct{ Prior *json.RawMessage }
	if err := json.Unmarshal([]byte(about.CertificateJson), &certificate); err != nil || certificate.Prior != nil {
		return err
	}
	size := 1
	for _, dimension := range about.Model.LatentShape {
		size *= int(dimension)
	}
	request := &sampler.DecodeRequest{Model: model}
	for _, image := range images {
		request.Latents = append(request.Latents, latents.Of(image.Seed, size)...)
		if image.Label != nil {
			request.Labels = append(request.Labels, *image.Label)
		}
	}
	decoded, err := client.Decode(ctx, request)
	if err != nil {
		return err
	}
	for i, image := range decoded.Images {
		if !bytes.Equal(image.Data, images[i].Data) {
			return fmt.Errorf("decoding the latent of seed %d gives OTHER bytes", images[i].Seed)
		}
	}
	fmt.Println("decoding their latents gives the same bytes")
	return nil
}

func connect(address string) (*grpc.ClientConn, context.Context, error) {
	transport, ctx := grpc.WithInsecure(), context.Background()
	if file := os.Getenv("GANVAS_TLS_CA"); file != "" {
		trusted, err := credentials.NewClientTLSFromFile(file, "")
		if err != nil {
			return nil, nil, err
		}
		transport = grpc.WithTransportCredentials(trusted)
	}
	if key := os.Getenv("GANVAS_API_KEY"); key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
	}
	connection, err := grpc.Dial(address, transport,
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)))
	return connection, ctx, err
}
