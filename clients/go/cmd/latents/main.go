// go run ./cmd/latents SEED COUNT prints COUNT numbers of a seed's latent as hexadecimal bit patterns of float32.
package main

import (
	"fmt"
	"log"
	"math"
	"os"
	"strconv"

	"ganvas/example/latents"
)

func main() {
	seed, err := strconv.ParseUint(os.Args[1], 10, 64)
	if err != nil {
		log.Fatal(err)
	}
	count, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	for _, number := range latents.Of(seed, count) {
		fmt.Printf("0x%08x\n", math.Float32bits(number))
	}
}
