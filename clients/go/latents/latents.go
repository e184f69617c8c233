// Package latents makes the latent of a seed, bit for bit as the server does: docs/rng.md.
package latents

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"sync"
)

const (
	key            = 0x93d7a65cb8e4f163
	sqrt2  float32 = 1.4142135
	digest         = "1cfbba1e07e34386a57626f82aeb43e6ed54ba70a3ea6b7d964dc66a841074a8"
)

// Wichura's AS241, as Python's statistics.NormalDist.inv_cdf has it: coefficients from the highest power down.
var (
	centreAbove = []float64{2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
		13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608}
	centreBelow = []float64{5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
		5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1}
	tailAbove = []float64{7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177,
		1.27045825245236838258, 3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959,
		1.42343711074968357734}
	tailBelow = []float64{1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966,
		0.14810397642748007459, 0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1}

	table [65536]float32
	once  sync.Once
)

// Of returns count standard normal numbers, those of a seed.
func Of(seed uint64, count int) []float32 {
	once.Do(fill)
	made := make([]float32, count)
	for dimension := range made {
		bits := squares32(seed, squares64(uint64(dimension), key)|1)
		made[dimension] = (table[bits>>16] + table[bits&0xffff]) / sqrt2
	}
	return made
}

func squares32(counter, key uint64) uint32 {
	x, _, z := rounds(counter, key)
	return uint32((x*x + z) >> 32)
}

func squares64(counter, key uint64) uint64 {
	x, y, z := rounds(counter, key)
	t := x*x + z
	x = swap(t)
	return t ^ ((x*x + y) >> 32)
}

func rounds(counter, key uint64) (x, y, z uint64) {
	y = counter * key
	z = y + key
	x = swap(y*y + y)
	x = swap(x*x + z)
	x = swap(x*x + y)
	return x, y, z
}

func swap(x uint64) uint64 { return x>>32 | x<<32 }

func fill() {
	for i := range table {
		table[i] = float32(quantile((float64(i) + 0.5) / 65536))
	}
	var data bytes.Buffer
	_ = binary.Write(&data, binary.LittleEndian, table) // a buffer takes everything
	if found := fmt.Sprintf("%x", sha256.Sum256(data.Bytes())); found != digest {
		panic(fmt.Sprintf("the table has SHA-256 %s: this machine's arithmetic differs.", found))
	}
}

// quantile is the standard normal one, for p within 2^-17 of 0 and 1 at the nearest.
func quantile(p float64) float64 {
	q := p - 0.5
	if math.Abs(q) <= 0.425 {
		r := 0.180625 - float64(q*q)
		return horner(centreAbove, r) * q / horner(centreBelow, r)
	}
	r := p
	if q > 0 {
		r = 1 - p
	}
	r = math.Sqrt(-math.Log(r)) - 1.6
	return math.Copysign(horner(tailAbove, r)/horner(tailBelow, r), q)
}

func horner(coefficients []float64, x float64) float64 {
	sum := coefficients[0]
	for _, coefficient := range coefficients[1:] {
		sum = float64(sum*x) + coefficient // the conversion keeps the compiler from fusing the two
	}
	return sum
}
