package tern

/*
#include <stdlib.h>
#include <tern.h>
*/
import "C"

import (
	"context"
	"time"
	"unsafe"
)

// ContextOptions say how a context is made. The zero value is the model's whole context and one sequence.
type ContextOptions struct {
	Tokens     int         // per sequence; 0: what the model was trained with
	Sequences  int         // 0: one
	Batch      int         // tokens evaluated at once, bounds scratch; 0: tern's choice
	KVInt8     bool        // keys and values in 8 bits instead of 16
	Embeddings bool        // Embedding works
	PoolMean   bool        // Embedding is the mean instead of the last token
	FastHead   bool        // an approximate head, screened
	KVBytesMax uint64      // cap on the pages held by all sequences; 0: none
	Threads    *ThreadPool // nil: the model's own
}

// c gives the options as C's struct, good until done.
func (o ContextOptions) c() (p *C.tern_context_params, done func(), err error) {
	p, done = new(C.tern_context_params), func() {}
	C.tern_context_params_init(p, C.sizeof_tern_context_params)
	if o.Threads != nil {
		if p.threadpool, err = o.Threads.h.use(); err != nil {
			return nil, nil, err
		}
		done = o.Threads.h.done
	}
	p.n_ctx, p.n_seq_max, p.n_batch = C.uint32_t(o.Tokens), C.uint32_t(o.Sequences), C.uint32_t(o.Batch)
	p.kv_bytes_max = C.uint64_t(o.KVBytesMax)
	if o.KVInt8 {
		p.kv_type = C.TERN_KV_I8
	}
	if o.PoolMean {
		p.pooling = C.TERN_POOL_MEAN
	}
	if o.Embeddings {
		p.flags |= C.TERN_CTX_EMBEDDINGS
	}
	if o.FastHead {
		p.flags |= C.TERN_CTX_FAST_HEAD
	}
	return p, done, nil
}

// Context is what moves: sequences of tokens, their keys and values. One goroutine at a time.
type Context struct{ h *handle[*C.tern_context] }

// NewContext makes an empty context.
func (m *Model) NewContext(o ContextOptions) (*Context, error) {
	params, done, err := o.c()
	if err != nil {
		return nil, err
	}
	defer done()
	var p *C.tern_context
	err = m.h.callWith(func(m *C.tern_model, e **C.tern_error) C.tern_status { return C.tern_context_new(m, params, &p, e) })
	if err != nil {
		return nil, err
	}
	c := &Context{}
	c.h = newHandle(c, p, func(p *C.tern_context) { C.tern_context_free(p) })
	return c, nil
}

// Close gives the context back.
func (c *Context) Close() error {
	c.h.close()
	return nil
}

// Rows choose for which tokens of an Eval logits can be had.
type Rows uint32

// For which tokens logits can be had.
const (
	LastRow Rows = 0
	AllRows Rows = C.TERN_EVAL_LOGITS_ALL
	NoRows  Rows = C.TERN_EVAL_LOGITS_NONE
)

// EvalOptions say where and how tokens are evaluated.
type EvalOptions struct {
	Seq    int           // the sequence
	Rows   Rows          // for which tokens logits can be had
	Budget time.Duration // return after about this time, though not all tokens are done; 0: none
}

func (o EvalOptions) c(token *cancel) *C.tern_eval_options {
	var p C.tern_eval_options
	C.tern_eval_options_init(&p, C.sizeof_tern_eval_options)
	p.seq, p.flags, p.budget_us, p.cancel = C.tern_seq(o.Seq), C.uint32_t(o.Rows), C.uint64_t(o.Budget.Microseconds()), token.p
	return &p
}

// Eval appends tokens to a sequence and gives how many were appended: all of them, or fewer when the budget is spent (call again
// with the rest) or ctx ended. On any other error nothing was appended.
func (c *Context) Eval(ctx context.Context, tokens []Token, o EvalOptions) (int, error) {
	token, err := watch(ctx)
	if err != nil {
		return 0, err
	}
	defer token.free()
	items, n := cTokens(tokens)
	options := o.c(token)
	var done C.size_t
	err = c.h.call(func(c *C.tern_context) C.tern_status { return C.tern_eval(c, items, n, options, &done) })
	return int(done), because(ctx, err)
}

// BatchItem is one token of an EvalBatch.
type BatchItem struct {
	Token Token
	Seq   int
	Row   bool // logits can be had
}

// EvalBatch appends tokens to many sequences in one pass over the weights.
func (c *Context) EvalBatch(ctx context.Context, items []BatchItem, budget time.Duration) (int, error) {
	token, err := watch(ctx)
	if err != nil {
		return 0, err
	}
	defer token.free()
	batch := make([]C.tern_batch_item, len(items))
	for i, item := range items {
		batch[i].token, batch[i].seq = C.tern_token(item.Token), C.tern_seq(item.Seq)
		if item.Row {
			batch[i].want_logits = 1
		}
	}
	options := EvalOptions{Budget: budget}.c(token)
	var done C.size_t
	err = c.h.call(func(c *C.tern_context) C.tern_status {
		return C.tern_eval_batch(c, first(batch), C.sizeof_tern_batch_item, C.size_t(len(batch)), options, &done)
	})
	return int(done), because(ctx, err)
}

// floats copies a borrowed row.
func (c *Context) floats(f func(*C.tern_context, **C.float, *C.size_t) C.tern_status) ([]float32, error) {
	var row []float32
	err := c.h.call(func(c *C.tern_context) C.tern_status {
		var values *C.float
		var n C.size_t
		status := f(c, &values, &n)
		if status >= 0 {
			row = append(row, unsafe.Slice((*float32)(unsafe.Pointer(values)), int(n))...)
		}
		return status
	})
	return row, err
}

// Logits copies row i of the last eval, counting the requested rows from 0.
func (c *Context) Logits(i int) ([]float32, error) {
	return c.floats(func(c *C.tern_context, values **C.float, n *C.size_t) C.tern_status {
		return C.tern_logits(c, C.size_t(i), values, n)
	})
}

// Embedding copies the pooled sequence, of length 1.
func (c *Context) Embedding(seq int) ([]float32, error) {
	return c.floats(func(c *C.tern_context, values **C.float, n *C.size_t) C.tern_status {
		return C.tern_embedding(c, C.tern_seq(seq), values, n)
	})
}

// TokenLogprob is a token and its log-probability.
type TokenLogprob struct {
	Token   Token
	Logprob float32
}

// LogprobsTop gives the k likeliest tokens of row i.
func (c *Context) LogprobsTop(i, k int) ([]TokenLogprob, error) {
	tokens, values := make([]C.tern_token, k), make([]C.float, k)
	var n C.size_t
	err := c.h.call(func(c *C.tern_context) C.tern_status {
		return C.tern_logprobs_top(c, C.size_t(i), C.size_t(k), first(tokens), first(values), &n)
	})
	top := make([]TokenLogprob, n)
	for i := range top {
		top[i] = TokenLogprob{Token(tokens[i]), float32(values[i])}
	}
	return top, err
}

// Score gives the log-probabilities of tokens as the continuation of a sequence, which stays as it was: one for each, or one
// fewer if the sequence is empty.
func (c *Context) Score(ctx context.Context, tokens []Token, seq int) ([]float32, error) {
	token, err := watch(ctx)
	if err != nil {
		return nil, err
	}
	defer token.free()
	items, n := cTokens(tokens)
	options := EvalOptions{Seq: seq}.c(token)
	values := make([]float32, len(tokens))
	var used C.size_t
	err = c.h.call(func(c *C.tern_context) C.tern_status {
		return C.tern_score(c, items, n, options, (*C.float)(unsafe.Pointer(first(values))), C.size_t(len(values)), &used)
	})
	return values[:used], because(ctx, err)
}

// Length gives the number of tokens in a sequence.
func (c *Context) Length(seq int) (int, error) {
	var n C.uint32_t
	err := c.h.call(func(c *C.tern_context) C.tern_status { return C.tern_seq_length(c, C.tern_seq(seq), &n) })
	return int(n), err
}

// Truncate drops the tokens of a sequence from length on.
func (c *Context) Truncate(seq, length int) error {
	return c.h.call(func(c *C.tern_context) C.tern_status {
		return C.tern_seq_truncate(c, C.tern_seq(seq), C.uint32_t(length))
	})
}

// Fork makes an empty sequence the same as another, at no cost.
func (c *Context) Fork(from, to int) error {
	return c.h.call(func(c *C.tern_context) C.tern_status { return C.tern_seq_fork(c, C.tern_seq(from), C.tern_seq(to)) })
}

// Shift drops discard tokens after the first keep; what follows is outside the determinism contract.
func (c *Context) Shift(seq, keep, discard int) error {
	return c.h.call(func(c *C.tern_context) C.tern_status {
		return C.tern_seq_shift(c, C.tern_seq(seq), C.uint32_t(keep), C.uint32_t(discard))
	})
}

// Clear empties a sequence.
func (c *Context) Clear(seq int) error {
	return c.h.call(func(c *C.tern_context) C.tern_status { return C.tern_seq_clear(c, C.tern_seq(seq)) })
}

// CommonPrefix gives the number of tokens that a sequence begins with.
func (c *Context) CommonPrefix(seq int, tokens []Token) (int, error) {
	items, n := cTokens(tokens)
	var same C.size_t
	err := c.h.call(func(c *C.tern_context) C.tern_status {
		return C.tern_seq_common_prefix(c, C.tern_seq(seq), items, n, &same)
	})
	return int(same), err
}

// SaveState gives a sequence as bytes.
func (c *Context) SaveState(seq int) ([]byte, error) {
	return c.h.bytes(func(c *C.tern_context, buf unsafe.Pointer, n C.size_t, out *C.size_t) C.tern_status {
		return C.tern_seq_state_save(c, C.tern_seq(seq), buf, n, out)
	})
}

// LoadState replaces a sequence with a saved one.
func (c *Context) LoadState(seq int, data []byte) error {
	return c.h.call(func(c *C.tern_context) C.tern_status {
		return C.tern_seq_state_load(c, C.tern_seq(seq), unsafe.Pointer(first(data)), C.size_t(len(data)))
	})
}

// Trim frees scratch memory, and with kv the pages too, which the next eval computes again. It gives the bytes freed.
func (c *Context) Trim(kv bool) (uint64, error) {
	level := C.int32_t(C.TERN_TRIM_SCRATCH)
	if kv {
		level = C.TERN_TRIM_KV
	}
	var freed C.uint64_t
	err := c.h.call(func(c *C.tern_context) C.tern_status { return C.tern_context_trim(c, level, &freed) })
	return uint64(freed), err
}

// SavePrefix writes a sequence to a file that any number of processes can map.
func (c *Context) SavePrefix(seq int, path string) error {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	return c.h.callWith(func(c *C.tern_context, e **C.tern_error) C.tern_status {
		return C.tern_seq_prefix_save(c, C.tern_seq(seq), name, e)
	})
}

// MapPrefix maps such a file into an empty sequence, with nothing to evaluate.
func (c *Context) MapPrefix(seq int, path string) error {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	return c.h.callWith(func(c *C.tern_context, e **C.tern_error) C.tern_status {
		return C.tern_seq_prefix_map(c, C.tern_seq(seq), name, e)
	})
}

// Choose says which string continues a sequence, which stays as it was: its index, and the probabilities of all.
func (c *Context) Choose(ctx context.Context, choices []string, seq int) (int, []float32, error) {
	token, err := watch(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer token.free()
	texts, lens, free := cStrings(choices)
	defer free()
	options := EvalOptions{Seq: seq}.c(token)
	probs := make([]float32, len(choices))
	var index C.size_t
	err = c.h.call(func(c *C.tern_context) C.tern_status {
		return C.tern_choose(c, texts, lens, C.size_t(len(choices)), options, &index, (*C.float)(unsafe.Pointer(first(probs))))
	})
	return int(index), probs, because(ctx, err)
}

// Perf counts what a context did.
type Perf struct {
	Load, Prefill, Decode, Sample, FirstToken           time.Duration
	Prefilled, Reused, Decoded, Drafted, DraftsAccepted uint64
	PeakHeapBytes                                       uint64
}

// Perf gives the counters.
func (c *Context) Perf() (Perf, error) {
	var p C.tern_perf
	C.tern_perf_init(&p, C.sizeof_tern_perf)
	err := c.h.call(func(c *C.tern_context) C.tern_status { return C.tern_context_perf(c, &p) })
	us := func(n C.uint64_t) time.Duration { return time.Duration(n) * time.Microsecond }
	return Perf{us(p.load_us), us(p.prefill_us), us(p.decode_us), us(p.sample_us), us(p.first_token_us), uint64(p.n_prefill),
		uint64(p.n_prefill_reused), uint64(p.n_decode), uint64(p.n_drafted), uint64(p.n_draft_accepted), uint64(p.peak_heap_bytes)}, err
}

// ResetPerf sets the counters to zero.
func (c *Context) ResetPerf() error {
	return c.h.call(func(c *C.tern_context) C.tern_status { return C.tern_context_perf_reset(c) })
}
