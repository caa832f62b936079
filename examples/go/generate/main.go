// go run ./generate -m MODEL "Once upon a time"
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	tern "example.com/tern/go"
)

func main() {
	path := flag.String("m", "", "MODEL")
	n := flag.Int("n", 64, "tokens at most")
	temp := flag.Float64("temp", 0, "temperature")
	seed := flag.Uint64("seed", 0, "of the sampler")
	flag.Parse()
	if *path == "" || flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: generate -m MODEL [-n N] [--temp T] [--seed S] PROMPT")
		os.Exit(2)
	}
	if err := generate(*path, flag.Arg(0), *n, float32(*temp), *seed); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func generate(path, prompt string, n int, temp float32, seed uint64) error {
	model, err := tern.Load(path)
	if err != nil {
		return err
	}
	defer model.Close()
	c, err := model.NewContext(tern.ContextOptions{})
	if err != nil {
		return err
	}
	defer c.Close()
	detok, err := model.NewDetok(0)
	if err != nil {
		return err
	}
	defer detok.Close()
	var steps []tern.Step
	if temp > 0 {
		steps = []tern.Step{tern.TopK(40), tern.Temp(temp)}
	}
	sampler, err := tern.NewSampler(seed, steps...)
	if err != nil {
		return err
	}
	defer sampler.Close()
	tokens, err := model.Tokenize(prompt, tern.AddSpecial)
	if err != nil {
		return err
	}
	for range n {
		if _, err := c.Eval(context.Background(), tokens, tern.EvalOptions{}); err != nil {
			return err
		}
		token, err := sampler.Sample(c, 0)
		if err != nil {
			return err
		}
		if end, err := model.IsEOG(token); err != nil || end {
			if err != nil {
				return err
			}
			break
		}
		piece, err := detok.Push(token)
		if err != nil {
			return err
		}
		fmt.Print(piece)
		tokens = []tern.Token{token}
	}
	rest, err := detok.Finish()
	fmt.Println(rest)
	return err
}
