package tern

/*
#include <stdlib.h>
#include <tern.h>
*/
import "C"

import (
	"context"
	"runtime"
	"sync"
	"unsafe"
)

// handle is one reference into the library. P is a pointer to a C type.
type handle[P any] struct {
	mu     sync.Mutex
	p      P
	users  int  // calls that hold p
	closed bool // p goes with the last user
	free   func(P)
}

// newHandle takes over p, and closes it when owner is collected.
func newHandle[P, O any](owner *O, p P, free func(P)) *handle[P] {
	h := &handle[P]{p: p, free: free}
	runtime.AddCleanup(owner, func(h *handle[P]) { h.close() }, h)
	return h
}

// use gives the pointer, which stays good until done.
func (h *handle[P]) use() (p P, err error) {
	if h == nil {
		return p, ErrClosed
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return p, ErrClosed
	}
	h.users++
	return h.p, nil
}

func (h *handle[P]) done() {
	h.mu.Lock()
	h.users--
	last := h.users == 0 && h.closed
	h.mu.Unlock()
	if last {
		h.free(h.p)
	}
}

func (h *handle[P]) close() {
	if h == nil {
		return
	}
	h.mu.Lock()
	last := h.users == 0 && !h.closed
	h.closed = true
	h.mu.Unlock()
	if last {
		h.free(h.p)
	}
}

// call runs f with the pointer and turns its status into an error.
func (h *handle[P]) call(f func(P) C.tern_status) error {
	p, err := h.use()
	if err != nil {
		return err
	}
	defer h.done()
	return check(f(p))
}

// callWith is call for functions that explain their failures.
func (h *handle[P]) callWith(f func(P, **C.tern_error) C.tern_status) error {
	p, err := h.use()
	if err != nil {
		return err
	}
	defer h.done()
	var e *C.tern_error
	status := f(p, &e)
	return checkWith(status, e)
}

// bytes runs a call that writes text or data: once for the size, once for the bytes.
func (h *handle[P]) bytes(f func(P, unsafe.Pointer, C.size_t, *C.size_t) C.tern_status) ([]byte, error) {
	p, err := h.use()
	if err != nil {
		return nil, err
	}
	defer h.done()
	var n C.size_t
	if err := check(f(p, nil, 0, &n)); err != nil {
		return nil, err
	}
	buffer := make([]byte, int(n)+1) // room for the NUL, so that an empty text has a buffer too
	if err := check(f(p, unsafe.Pointer(&buffer[0]), C.size_t(len(buffer)), &n)); err != nil {
		return nil, err
	}
	return buffer[:n], nil
}

// cancel is a C token that the end of a Go context sets.
type cancel struct {
	h    *handle[*C.tern_cancel]
	p    *C.tern_cancel // nil for a context that never ends
	stop func() bool
}

// watch starts to follow ctx. Call free when the calls that were given the token are over.
func watch(ctx context.Context) (*cancel, error) {
	c := &cancel{}
	if ctx.Done() == nil {
		return c, nil
	}
	if err := check(C.tern_cancel_new(&c.p)); err != nil {
		return nil, err
	}
	c.h = newHandle(c, c.p, func(p *C.tern_cancel) { C.tern_cancel_free(p) })
	h := c.h
	if ctx.Err() != nil { // AfterFunc starts a goroutine, which could come late
		C.tern_cancel_set(c.p)
	}
	c.stop = context.AfterFunc(ctx, func() {
		if p, err := h.use(); err == nil {
			C.tern_cancel_set(p)
			h.done()
		}
	})
	return c, nil
}

func (c *cancel) free() {
	if c.stop != nil {
		c.stop()
		c.h.close()
	}
}

// text gives a Go string's bytes to a call: not NUL-terminated, good while s is alive, never NULL.
func text(s string) (*C.char, C.size_t) {
	if s == "" {
		return (*C.char)(unsafe.Pointer(new(byte))), 0
	}
	return (*C.char)(unsafe.Pointer(unsafe.StringData(s))), C.size_t(len(s))
}

// first gives the address of a slice's items, never NULL.
func first[T any](s []T) *T {
	if len(s) == 0 {
		return new(T)
	}
	return &s[0]
}

// copied puts a string into C memory, for structs that are passed by pointer; free it with C.free.
func copied(s string) (*C.char, C.size_t) {
	if s == "" {
		return nil, 0
	}
	return C.CString(s), C.size_t(len(s))
}

// cStrings puts strings into C memory; free gives it back.
func cStrings(texts []string) (pointers **C.char, lens *C.size_t, free func()) {
	n := len(texts)
	pointers = (**C.char)(C.calloc(C.size_t(n+1), C.size_t(unsafe.Sizeof(uintptr(0))))) // never NULL
	lens = (*C.size_t)(C.calloc(C.size_t(n+1), C.sizeof_size_t))
	for i, s := range texts {
		unsafe.Slice(pointers, n)[i], unsafe.Slice(lens, n)[i] = C.CString(s), C.size_t(len(s))
	}
	return pointers, lens, func() {
		for _, p := range unsafe.Slice(pointers, n) {
			C.free(unsafe.Pointer(p))
		}
		C.free(unsafe.Pointer(pointers))
		C.free(unsafe.Pointer(lens))
	}
}
