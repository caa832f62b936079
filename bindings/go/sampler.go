package tern

// #include <tern.h>
import "C"

import (
	"runtime"
	"unsafe"
)

// GrammarKind says how a grammar is written.
type GrammarKind int32

// How a grammar is written.
const (
	JSON       GrammarKind = C.TERN_GRAMMAR_JSON        // any JSON; the source is ignored
	JSONSchema GrammarKind = C.TERN_GRAMMAR_JSON_SCHEMA // a JSON schema
	Regex      GrammarKind = C.TERN_GRAMMAR_REGEX
	GBNF       GrammarKind = C.TERN_GRAMMAR_GBNF
	Choice     GrammarKind = C.TERN_GRAMMAR_CHOICE // a JSON array of strings
	Lark       GrammarKind = C.TERN_GRAMMAR_LARK
)

// Grammar is what may be said: compiled once, for any number of goroutines and sessions.
type Grammar struct{ h *handle[*C.tern_grammar] }

// NewGrammar compiles a grammar for the model's tokens.
func (m *Model) NewGrammar(kind GrammarKind, source string) (*Grammar, error) {
	s, n := text(source)
	var p *C.tern_grammar
	err := m.h.callWith(func(m *C.tern_model, e **C.tern_error) C.tern_status {
		return C.tern_grammar_compile(m, C.int32_t(kind), s, n, &p, e)
	})
	runtime.KeepAlive(source)
	if err != nil {
		return nil, err
	}
	g := &Grammar{}
	g.h = newHandle(g, p, func(p *C.tern_grammar) { C.tern_grammar_free(p) })
	return g, nil
}

// Close gives the grammar back.
func (g *Grammar) Close() error {
	g.h.close()
	return nil
}

// Step is one step of a sampler.
type Step func(*C.tern_sampler) C.tern_status

// Sampler is a chain of steps that ends in a choice. One goroutine at a time.
type Sampler struct{ h *handle[*C.tern_sampler] }

// NewSampler makes a chain of steps in this order; with none it takes the likeliest token.
func NewSampler(seed uint64, steps ...Step) (*Sampler, error) {
	var p *C.tern_sampler
	if err := check(C.tern_sampler_new(C.uint64_t(seed), &p)); err != nil {
		return nil, err
	}
	s := ownSampler(p)
	for _, step := range steps {
		if err := s.h.call(step); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

func ownSampler(p *C.tern_sampler) *Sampler {
	s := &Sampler{}
	s.h = newHandle(s, p, func(p *C.tern_sampler) { C.tern_sampler_free(p) })
	return s
}

// TopK keeps the k likeliest tokens.
func TopK(k int) Step {
	return func(s *C.tern_sampler) C.tern_status { return C.tern_sampler_add_top_k(s, C.int32_t(k)) }
}

// TopP keeps the likeliest tokens that make up p.
func TopP(p float32, minKeep int) Step {
	return func(s *C.tern_sampler) C.tern_status {
		return C.tern_sampler_add_top_p(s, C.float(p), C.size_t(minKeep))
	}
}

// MinP keeps tokens at least p times as likely as the best.
func MinP(p float32, minKeep int) Step {
	return func(s *C.tern_sampler) C.tern_status {
		return C.tern_sampler_add_min_p(s, C.float(p), C.size_t(minKeep))
	}
}

// Typical keeps tokens of typical surprise that make up p.
func Typical(p float32, minKeep int) Step {
	return func(s *C.tern_sampler) C.tern_status {
		return C.tern_sampler_add_typical(s, C.float(p), C.size_t(minKeep))
	}
}

// TopNSigma keeps tokens within n standard deviations of the best.
func TopNSigma(n float32) Step {
	return func(s *C.tern_sampler) C.tern_status { return C.tern_sampler_add_top_n_sigma(s, C.float(n)) }
}

// XTC now and then drops the likeliest tokens above a threshold but one.
func XTC(probability, threshold float32, minKeep int) Step {
	return func(s *C.tern_sampler) C.tern_status {
		return C.tern_sampler_add_xtc(s, C.float(probability), C.float(threshold), C.size_t(minKeep))
	}
}

// Temp sets the temperature; 0 or less leaves the best.
func Temp(t float32) Step {
	return func(s *C.tern_sampler) C.tern_status { return C.tern_sampler_add_temp(s, C.float(t)) }
}

// TempDynamic sets the temperature by entropy, from t - spread to t + spread.
func TempDynamic(t, spread, exponent float32) Step {
	return func(s *C.tern_sampler) C.tern_status {
		return C.tern_sampler_add_temp_dynamic(s, C.float(t), C.float(spread), C.float(exponent))
	}
}

// MirostatV2 holds the surprise at tau.
func MirostatV2(tau, eta float32) Step {
	return func(s *C.tern_sampler) C.tern_status {
		return C.tern_sampler_add_mirostat_v2(s, C.float(tau), C.float(eta))
	}
}

// Penalties work against repeating the last n tokens.
func Penalties(lastN int, repeat, freq, present float32) Step {
	return func(s *C.tern_sampler) C.tern_status {
		return C.tern_sampler_add_penalties(s, C.int32_t(lastN), C.float(repeat), C.float(freq), C.float(present))
	}
}

// DRY works against repeating runs of tokens.
func DRY(multiplier, base float32, allowedLength, lastN int) Step {
	return func(s *C.tern_sampler) C.tern_status {
		return C.tern_sampler_add_dry(s, C.float(multiplier), C.float(base), C.int32_t(allowedLength), C.int32_t(lastN))
	}
}

// LogitBias adds to the scores of tokens.
func LogitBias(bias map[Token]float32) Step {
	return func(s *C.tern_sampler) C.tern_status {
		items := make([]C.tern_logit_bias, 0, len(bias))
		for t, b := range bias { // one entry a token: the order does not matter
			items = append(items, C.tern_logit_bias{token: C.tern_token(t), bias: C.float(b)})
		}
		return C.tern_sampler_add_logit_bias(s, first(items), C.sizeof_tern_logit_bias, C.size_t(len(items)))
	}
}

// Constrain allows only what the grammar does.
func Constrain(g *Grammar) Step {
	return func(s *C.tern_sampler) C.tern_status {
		p, err := g.h.use()
		if err != nil {
			return C.TERN_ERR_INVALID_ARGUMENT
		}
		defer g.h.done()
		return C.tern_sampler_add_grammar(s, p)
	}
}

// Clone copies the sampler with its random state and history.
func (s *Sampler) Clone() (*Sampler, error) {
	var p *C.tern_sampler
	if err := s.h.call(func(s *C.tern_sampler) C.tern_status { return C.tern_sampler_clone(s, &p) }); err != nil {
		return nil, err
	}
	return ownSampler(p), nil
}

// Sample picks from row i of the last eval and remembers the choice.
func (s *Sampler) Sample(c *Context, i int) (Token, error) {
	var t C.tern_token
	err := c.h.call(func(c *C.tern_context) C.tern_status {
		p, err := s.h.use()
		if err != nil {
			return C.TERN_ERR_INVALID_ARGUMENT
		}
		defer s.h.done()
		return C.tern_sampler_sample(p, c, C.size_t(i), &t)
	})
	return Token(t), err
}

// SampleLogits picks from a row of the program's own.
func (s *Sampler) SampleLogits(logits []float32) (Token, error) {
	var t C.tern_token
	err := s.h.call(func(s *C.tern_sampler) C.tern_status {
		return C.tern_sampler_sample_logits(s, (*C.float)(unsafe.Pointer(first(logits))), C.size_t(len(logits)), &t)
	})
	return Token(t), err
}

// Accept remembers a token chosen elsewhere.
func (s *Sampler) Accept(t Token) error {
	return s.h.call(func(s *C.tern_sampler) C.tern_status { return C.tern_sampler_accept(s, C.tern_token(t)) })
}

// Reset makes history, grammar and seed as at first.
func (s *Sampler) Reset() error {
	return s.h.call(func(s *C.tern_sampler) C.tern_status { return C.tern_sampler_reset(s) })
}

// Close gives the sampler back.
func (s *Sampler) Close() error {
	s.h.close()
	return nil
}
