package tern

/*
#include <stdlib.h>
#include <tern.h>
*/
import "C"

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"runtime"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// OnFull says what happens when a conversation outgrows its context.
type OnFull int32

// What happens when a conversation outgrows its context.
const (
	FullIsError OnFull = C.TERN_ON_FULL_ERROR
	DropTurns   OnFull = C.TERN_ON_FULL_DROP_TURNS // the oldest go, instructions stay
	ShiftTokens OnFull = C.TERN_ON_FULL_SHIFT      // the first Keep tokens stay; outside the determinism contract
)

// SessionOptions say how a session is made. The zero value is what most programs want.
type SessionOptions struct {
	ChatTemplate string // Jinja; empty: the model's
	OnFull       OnFull
	Keep         int // ShiftTokens: first tokens kept; 0: the instructions
	Context      ContextOptions
}

// GenerateOptions say how one answer is made. The zero value is the model's recommended sampling, to the end of the context.
type GenerateOptions struct {
	MaxTokens int      // 0: to the end of the context
	Stop      []string // ends the answer, and is never shown, not even in part
	Sampler   *Sampler // copied; nil: the model's recommended chain
	Grammar   *Grammar // nil: anything may be said
	Lookup    bool     // draft from the prompt: the same text, sooner
}

// FinishReason says why an answer ended.
type FinishReason int32

// Why an answer ended.
const (
	NotFinished       FinishReason = C.TERN_FINISH_NONE
	FinishEOG         FinishReason = C.TERN_FINISH_EOG
	FinishStop        FinishReason = C.TERN_FINISH_STOP
	FinishLength      FinishReason = C.TERN_FINISH_LENGTH
	FinishContextFull FinishReason = C.TERN_FINISH_CONTEXT_FULL
	FinishCancelled   FinishReason = C.TERN_FINISH_CANCELLED
)

// Chunk is a step of an answer.
type Chunk struct {
	Status  Status // OK, Pending or Done
	Text    string // whole characters, often none
	Token   Token  // the newest, -1: none
	Logprob float32
	Finish  FinishReason
}

// Session is a conversation. One goroutine at a time.
type Session struct {
	h     *handle[*C.tern_session]
	err   error // why there is no session
	mu    sync.Mutex
	token *cancel // of the answer that runs; under mu, since a second goroutine may be told Busy
}

// NewSession starts a conversation; no instructions are "". If it cannot be made, Err and every use say why.
func (m *Model) NewSession(instructions string) *Session {
	s, err := m.NewSessionWith(instructions, SessionOptions{})
	if err != nil {
		return &Session{err: err}
	}
	return s
}

// NewSessionWith is NewSession with options.
func (m *Model) NewSessionWith(instructions string, o SessionOptions) (*Session, error) {
	return m.session(instructions, o, func(m *C.tern_model, p *C.tern_session_params, s **C.tern_session, e **C.tern_error) C.tern_status {
		return C.tern_session_new(m, p, s, e)
	})
}

// RestoreSession makes the session that Save wrote. Instructions and template are the saved ones.
func (m *Model) RestoreSession(data []byte, o SessionOptions) (*Session, error) {
	return m.session("", o, func(m *C.tern_model, p *C.tern_session_params, s **C.tern_session, e **C.tern_error) C.tern_status {
		return C.tern_session_restore(m, unsafe.Pointer(first(data)), C.size_t(len(data)), p, s, e)
	})
}

func (m *Model) session(instructions string, o SessionOptions,
	make func(*C.tern_model, *C.tern_session_params, **C.tern_session, **C.tern_error) C.tern_status) (*Session, error) {
	context, done, err := o.Context.c()
	if err != nil {
		return nil, err
	}
	defer done()
	// In C memory, since it points to the context's parameters.
	p := (*C.tern_session_params)(C.calloc(1, C.sizeof_tern_session_params))
	below := (*C.tern_context_params)(C.calloc(1, C.sizeof_tern_context_params))
	C.tern_session_params_init(p, C.sizeof_tern_session_params)
	*below = *context
	p.instructions, p.instructions_len = copied(instructions)
	p.chat_template, p.chat_template_len = copied(o.ChatTemplate)
	p.on_full, p.n_keep, p.context = C.int32_t(o.OnFull), C.uint32_t(o.Keep), below
	defer func() {
		C.free(unsafe.Pointer(p.instructions))
		C.free(unsafe.Pointer(p.chat_template))
		C.free(unsafe.Pointer(below))
		C.free(unsafe.Pointer(p))
	}()
	var made *C.tern_session
	if err := m.h.callWith(func(m *C.tern_model, e **C.tern_error) C.tern_status { return make(m, p, &made, e) }); err != nil {
		return nil, err
	}
	return ownSession(made), nil
}

func ownSession(p *C.tern_session) *Session {
	s := &Session{}
	s.h = newHandle(s, p, func(p *C.tern_session) { C.tern_session_free(p) })
	return s
}

// Err says why NewSession could not make the session; nil if it did.
func (s *Session) Err() error { return s.err }

// Close gives the session back.
func (s *Session) Close() error {
	s.h.close()
	return nil
}

func (s *Session) call(f func(*C.tern_session) C.tern_status) error {
	if s.err != nil {
		return s.err
	}
	return s.h.call(f)
}

func (s *Session) callWith(f func(*C.tern_session, **C.tern_error) C.tern_status) error {
	if s.err != nil {
		return s.err
	}
	return s.h.callWith(f)
}

// Ask streams the answer in pieces of whole characters. Leaving the loop ends the answer, as the end of ctx does; what was said
// stays in the transcript. At most one GenerateOptions is looked at.
func (s *Session) Ask(ctx context.Context, prompt string, o ...GenerateOptions) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := s.Start(ctx, prompt, o...); err != nil {
			yield("", err)
			return
		}
		for {
			chunk, err := s.Next(0)
			if err != nil {
				yield("", because(ctx, err))
				return
			}
			if chunk.Text != "" && !yield(chunk.Text, nil) {
				if chunk.Status != Done {
					s.Stop() // the session may have been closed by the loop's body: then there is nothing to stop
				}
				return
			}
			if chunk.Status == Done {
				return
			}
		}
	}
}

// Respond gives the whole answer. On an error the text so far comes with it.
func (s *Session) Respond(ctx context.Context, prompt string, o ...GenerateOptions) (string, error) {
	var answer strings.Builder
	for piece, err := range s.Ask(ctx, prompt, o...) {
		if err != nil {
			return answer.String(), err
		}
		answer.WriteString(piece)
	}
	return answer.String(), nil
}

// Start begins an answer and evaluates nothing; Next does. For programs that step an answer themselves, within a frame say.
func (s *Session) Start(ctx context.Context, prompt string, options ...GenerateOptions) error {
	var g GenerateOptions
	if len(options) > 0 {
		g = options[0]
	}
	token, err := watch(ctx)
	if err != nil {
		return err
	}
	o := (*C.tern_generate_options)(C.calloc(1, C.sizeof_tern_generate_options))
	defer C.free(unsafe.Pointer(o))
	C.tern_generate_options_init(o, C.sizeof_tern_generate_options)
	o.max_tokens, o.cancel = C.uint32_t(g.MaxTokens), token.p
	if g.Lookup {
		o.draft = C.TERN_DRAFT_PROMPT_LOOKUP
	}
	if g.Sampler != nil {
		if o.sampler, err = g.Sampler.h.use(); err != nil {
			token.free()
			return err
		}
		defer g.Sampler.h.done()
	}
	if g.Grammar != nil {
		if o.grammar, err = g.Grammar.h.use(); err != nil {
			token.free()
			return err
		}
		defer g.Grammar.h.done()
	}
	if len(g.Stop) > 0 {
		stops, lens, free := cStrings(g.Stop)
		defer free()
		o.stop, o.stop_lens, o.n_stop = stops, lens, C.size_t(len(g.Stop))
	}
	t, n := text(prompt)
	err = s.callWith(func(s *C.tern_session, e **C.tern_error) C.tern_status { return C.tern_session_start(s, t, n, o, e) })
	runtime.KeepAlive(prompt)
	if err != nil {
		token.free()
		return err
	}
	s.mu.Lock()
	s.token = token
	s.mu.Unlock()
	return nil
}

// Next takes one step of the answer. With a budget it returns Pending after about that time.
func (s *Session) Next(budget time.Duration) (Chunk, error) {
	var chunk Chunk
	err := s.call(func(s *C.tern_session) C.tern_status {
		var c C.tern_chunk
		C.tern_chunk_init(&c, C.sizeof_tern_chunk)
		status := C.tern_session_next(s, C.uint64_t(budget.Microseconds()), &c)
		if status >= 0 {
			chunk = Chunk{Status(status), C.GoStringN(c.utf8, C.int(c.len)), Token(c.token), float32(c.logprob), FinishReason(c.finish_reason)}
		}
		return status
	})
	if err != nil || chunk.Status == Done {
		s.over(err)
	}
	return chunk, err
}

// Stop ends an answer early; what was said stays in the transcript.
func (s *Session) Stop() error {
	err := s.call(func(s *C.tern_session) C.tern_status { return C.tern_session_stop(s) })
	s.over(err)
	return err
}

// over lets go of the context that the answer followed. A session in use elsewhere is not this caller's to end.
func (s *Session) over(err error) {
	if errors.Is(err, Busy) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token != nil {
		s.token.free()
		s.token = nil
	}
}

// Prewarm evaluates what the transcript holds, so that the first token comes sooner.
func (s *Session) Prewarm(ctx context.Context) error {
	token, err := watch(ctx)
	if err != nil {
		return err
	}
	defer token.free()
	return because(ctx, s.call(func(s *C.tern_session) C.tern_status { return C.tern_session_prewarm(s, token.p) }))
}

// Messages gives the transcript.
func (s *Session) Messages() ([]Message, error) {
	if s.err != nil {
		return nil, s.err
	}
	data, err := s.h.bytes(func(s *C.tern_session, buf unsafe.Pointer, c C.size_t, out *C.size_t) C.tern_status {
		return C.tern_session_transcript_to_json(s, (*C.char)(buf), c, out)
	})
	if err != nil {
		return nil, err
	}
	var messages []Message
	err = json.Unmarshal(data, &messages)
	return messages, err
}

// SetMessages replaces the transcript; what it shares with the old one is not evaluated again.
func (s *Session) SetMessages(messages []Message) error {
	array, free := cMessages(messages)
	defer free()
	return s.callWith(func(s *C.tern_session, e **C.tern_error) C.tern_status {
		return C.tern_session_set_messages(s, array, C.sizeof_tern_message, C.size_t(len(messages)), e)
	})
}

// Fork gives the same conversation once more, with a context of its own.
func (s *Session) Fork() (*Session, error) {
	var p *C.tern_session
	if err := s.call(func(s *C.tern_session) C.tern_status { return C.tern_session_fork(s, &p) }); err != nil {
		return nil, err
	}
	return ownSession(p), nil
}

// Save gives the conversation as bytes.
func (s *Session) Save() ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	return s.h.bytes(func(s *C.tern_session, buf unsafe.Pointer, c C.size_t, out *C.size_t) C.tern_status {
		return C.tern_session_save(s, buf, c, out)
	})
}
