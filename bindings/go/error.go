package tern

// #include <tern.h>
import "C"

import (
	"context"
	"errors"
	"fmt"
)

// Status is what a call of the library answered. Those below zero are errors and can be looked for: errors.Is(err, tern.Busy).
type Status int32

// Every status of the library.
const (
	OK               Status = C.TERN_OK
	Done             Status = C.TERN_DONE                  // the end of a generation
	Pending          Status = C.TERN_PENDING               // the time budget is spent: call again
	InvalidArgument  Status = C.TERN_ERR_INVALID_ARGUMENT  // outside the contract
	OutOfMemory      Status = C.TERN_ERR_OUT_OF_MEMORY     // nothing was changed
	IO               Status = C.TERN_ERR_IO                // the system refused a file
	BadModel         Status = C.TERN_ERR_BAD_MODEL         // truncated or corrupt
	UnsupportedModel Status = C.TERN_ERR_UNSUPPORTED_MODEL // well formed, but not a model tern runs
	Unsupported      Status = C.TERN_ERR_UNSUPPORTED       // an option that this build, system or version lacks
	BufferTooSmall   Status = C.TERN_ERR_BUFFER_TOO_SMALL  // never seen through this package
	ContextFull      Status = C.TERN_ERR_CONTEXT_FULL      // nothing was changed
	Cancelled        Status = C.TERN_ERR_CANCELLED         // what was done is whole
	Busy             Status = C.TERN_ERR_BUSY              // the handle is in use on another goroutine
	GrammarError     Status = C.TERN_ERR_GRAMMAR           // does not compile, or leaves nothing to say
	StateMismatch    Status = C.TERN_ERR_STATE_MISMATCH    // saved by another model or version
	Panic            Status = C.TERN_ERR_PANIC             // a bug in tern; the handle is poisoned
	Poisoned         Status = C.TERN_ERR_POISONED          // after a panic: only Close works
	InvalidState     Status = C.TERN_ERR_INVALID_STATE     // the right call at the wrong moment
	NotFound         Status = C.TERN_ERR_NOT_FOUND         // no such key or index
)

// String gives the name in the C header, "TERN_ERR_IO".
func (s Status) String() string { return C.GoString(C.tern_status_name(C.tern_status(s))) }

// Error makes a Status a target of errors.Is.
func (s Status) Error() string { return s.String() }

// Error is a failed call: its status and the library's words, which name the file, the place and the remedy.
type Error struct {
	Status  Status
	Message string
}

func (e *Error) Error() string { return "tern: " + e.Message }

// Unwrap lets errors.Is compare with a Status.
func (e *Error) Unwrap() error { return e.Status }

// ErrClosed is the answer of a handle after Close.
var ErrClosed = errors.New("tern: use of a closed handle")

// check turns a status into an error; OK, Done and Pending are none.
func check(status C.tern_status) error { return checkWith(status, nil) }

// checkWith takes over the error object of the call, which may be nil.
func checkWith(status C.tern_status, e *C.tern_error) error {
	if status >= 0 {
		return nil
	}
	message := C.GoString(C.tern_error_message(e))
	C.tern_error_free(e)
	if message == "" {
		message = Status(status).String()
	}
	return &Error{Status(status), message}
}

// because adds why the context ended to an error that its end caused.
func because(ctx context.Context, err error) error {
	if errors.Is(err, Cancelled) && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", err, context.Cause(ctx))
	}
	return err
}
