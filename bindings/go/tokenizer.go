package tern

/*
#include <stdlib.h>
#include <tern.h>
*/
import "C"

import (
	"runtime"
	"unsafe"
)

// Token is the number of a piece of text.
type Token int32

// TokenizeFlags choose what becomes a token.
type TokenizeFlags uint32

// What becomes a token.
const (
	AddSpecial   TokenizeFlags = C.TERN_TOK_ADD_SPECIAL   // what the model wants at the start
	ParseSpecial TokenizeFlags = C.TERN_TOK_PARSE_SPECIAL // markers in the text are tokens, not text: never for a stranger's text
)

// DetokenizeFlags choose how markers become text.
type DetokenizeFlags uint32

// How markers become text.
const (
	RemoveSpecial DetokenizeFlags = C.TERN_DETOK_REMOVE_SPECIAL // those at the ends go
	RenderSpecial DetokenizeFlags = C.TERN_DETOK_RENDER_SPECIAL // by name; else they are empty
)

// cTokens views tokens as C's.
func cTokens(tokens []Token) (*C.tern_token, C.size_t) {
	return (*C.tern_token)(unsafe.Pointer(first(tokens))), C.size_t(len(tokens))
}

// Tokenize turns text into tokens.
func (m *Model) Tokenize(s string, flags TokenizeFlags) ([]Token, error) {
	t, n := text(s)
	var tokens []Token
	err := m.h.call(func(m *C.tern_model) C.tern_status {
		var need C.size_t
		status := C.tern_tokenize(m, t, n, C.uint32_t(flags), nil, 0, &need)
		if status < 0 {
			return status
		}
		tokens = make([]Token, need)
		buffer, size := cTokens(tokens)
		return C.tern_tokenize(m, t, n, C.uint32_t(flags), buffer, size, &need)
	})
	runtime.KeepAlive(s)
	return tokens, err
}

// Detokenize turns tokens into text; bytes that are no UTF-8 stay as they are.
func (m *Model) Detokenize(tokens []Token, flags DetokenizeFlags) (string, error) {
	t, n := cTokens(tokens)
	b, err := m.h.bytes(func(m *C.tern_model, buf unsafe.Pointer, c C.size_t, out *C.size_t) C.tern_status {
		return C.tern_detokenize(m, t, n, C.uint32_t(flags), (*C.char)(buf), c, out)
	})
	return string(b), err
}

// Piece gives the bytes of one token, which may be a part of a character.
func (m *Model) Piece(t Token, flags DetokenizeFlags) ([]byte, error) {
	return m.h.bytes(func(m *C.tern_model, buf unsafe.Pointer, c C.size_t, out *C.size_t) C.tern_status {
		return C.tern_token_to_piece(m, C.tern_token(t), C.uint32_t(flags), (*C.char)(buf), c, out)
	})
}

// IsEOG says whether a token ends a generation.
func (m *Model) IsEOG(t Token) (bool, error) {
	var is C.int32_t
	err := m.h.call(func(m *C.tern_model) C.tern_status { return C.tern_token_is_eog(m, C.tern_token(t), &is) })
	return is != 0, err
}

// IsControl says whether a token is a marker rather than text.
func (m *Model) IsControl(t Token) (bool, error) {
	var is C.int32_t
	err := m.h.call(func(m *C.tern_model) C.tern_status { return C.tern_token_is_control(m, C.tern_token(t), &is) })
	return is != 0, err
}

// Message is one turn of a conversation.
type Message struct {
	Role    string `json:"role"` // "system", "user", "assistant"
	Content string `json:"content"`
}

// cMessages copies messages into C memory; free gives it back.
func cMessages(messages []Message) (array *C.tern_message, free func()) {
	array = (*C.tern_message)(C.calloc(C.size_t(len(messages)+1), C.sizeof_tern_message))
	items := unsafe.Slice(array, len(messages))
	for i, m := range messages {
		items[i].role, items[i].role_len = C.CString(m.Role), C.size_t(len(m.Role))
		items[i].content, items[i].content_len = C.CString(m.Content), C.size_t(len(m.Content))
	}
	return array, func() {
		for _, m := range items {
			C.free(unsafe.Pointer(m.role))
			C.free(unsafe.Pointer(m.content))
		}
		C.free(unsafe.Pointer(array))
	}
}

// ApplyChatTemplate writes messages as the text the model reads, up to where its answer begins. An empty template is the
// model's own.
func (m *Model) ApplyChatTemplate(messages []Message, template string) (string, error) {
	array, free := cMessages(messages)
	defer free()
	var o C.tern_chat_options
	C.tern_chat_options_init(&o, C.sizeof_tern_chat_options)
	o.flags = C.TERN_CHAT_ADD_GENERATION_PROMPT
	o.chat_template, o.chat_template_len = copied(template)
	defer C.free(unsafe.Pointer(o.chat_template))
	var e *C.tern_error
	b, err := m.h.bytes(func(m *C.tern_model, buf unsafe.Pointer, c C.size_t, out *C.size_t) C.tern_status {
		C.tern_error_free(e)
		e = nil
		return C.tern_chat_apply_template(m, array, C.sizeof_tern_message, C.size_t(len(messages)), &o, (*C.char)(buf), c, out, &e)
	})
	if e != nil {
		err = checkWith(C.tern_error_code(e), e)
	}
	return string(b), err
}

// Detok turns tokens into whole characters as they come.
type Detok struct{ h *handle[*C.tern_detok] }

// NewDetok makes a Detok for the model's tokens.
func (m *Model) NewDetok(flags DetokenizeFlags) (*Detok, error) {
	var p *C.tern_detok
	if err := m.h.call(func(m *C.tern_model) C.tern_status { return C.tern_detok_new(m, C.uint32_t(flags), &p) }); err != nil {
		return nil, err
	}
	d := &Detok{}
	d.h = newHandle(d, p, func(p *C.tern_detok) { C.tern_detok_free(p) })
	return d, nil
}

// Push takes a token and gives the text that it completes, often none.
func (d *Detok) Push(t Token) (s string, err error) {
	err = d.h.call(func(d *C.tern_detok) C.tern_status {
		var utf8 *C.char
		var n C.size_t
		status := C.tern_detok_push(d, C.tern_token(t), &utf8, &n)
		if status >= 0 {
			s = C.GoStringN(utf8, C.int(n))
		}
		return status
	})
	return s, err
}

// Finish gives what is left, with U+FFFD for a torn end.
func (d *Detok) Finish() (s string, err error) {
	err = d.h.call(func(d *C.tern_detok) C.tern_status {
		var utf8 *C.char
		var n C.size_t
		status := C.tern_detok_finish(d, &utf8, &n)
		if status >= 0 {
			s = C.GoStringN(utf8, C.int(n))
		}
		return status
	})
	return s, err
}

// Close gives the decoder back.
func (d *Detok) Close() error {
	d.h.close()
	return nil
}
