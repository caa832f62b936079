// The race detector keeps a record of memory that grows by itself.

//go:build !race

package tern

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

func resident(t *testing.T) int {
	fields := strings.Fields(string(must(os.ReadFile("/proc/self/statm"))))
	return must(strconv.Atoi(fields[1])) * os.Getpagesize()
}

// flat runs a warm-up, then rounds that may add less than 4 MiB.
func flat(t *testing.T, times int, round func()) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	rounds := 1000
	if n := os.Getenv("TERN_LEAK_ROUNDS"); n != "" {
		rounds = must(strconv.Atoi(n))
	}
	rounds *= times
	for range rounds/5 + 20 {
		round()
	}
	runtime.GC()
	before := resident(t)
	for range rounds {
		round()
	}
	runtime.GC()
	if more := resident(t) - before; more > 4<<20 {
		t.Errorf("%d bytes more after %d rounds", more, rounds)
	}
}

func TestMemoryStaysFlatOverLoadsAndSessions(t *testing.T) {
	flat(t, 1, func() {
		m := must(Load(modelPath()))
		s := m.NewSession("Be brief.")
		o := greedy(2)
		must(s.Respond(context.Background(), "Hi", o))
		f := must(s.Fork())
		ctx, cancel := context.WithCancel(context.Background())
		must(f.Respond(ctx, "Hi", o))
		cancel()
		c, d := must(m.NewContext(ContextOptions{})), must(m.NewDetok(0))
		must(c.Eval(context.Background(), []Token{1}, EvalOptions{}))
		for _, h := range []interface{ Close() error }{c, d, must(m.NewGrammar(Choice, `["a"]`)), o.Sampler, f, s, m} {
			h.Close()
		}
	})
}

func TestMemoryStaysFlatOverSmallHandles(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background()) // has an end, so that each call makes a token
	defer cancel()
	flat(t, 100, func() {
		must(NewSampler(1)).Close()
		_, err := LoadWith(ctx, "/no such file", LoadOptions{})
		refused(t, err, IO)
	})
}

// A forgotten model is released by the collector.
func TestForgottenHandlesAreReleased(t *testing.T) {
	h := func() *handle[*int] {
		type owner struct{ h *handle[*int] }
		o := &owner{}
		o.h = newHandle(o, new(int), func(p *int) { *p = 1 })
		return o.h
	}()
	for range 100 {
		runtime.GC()
		if _, err := h.use(); err != nil {
			return
		}
		h.done()
	}
	t.Error("not released")
}
