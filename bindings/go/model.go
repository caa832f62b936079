package tern

/*
#include <stdlib.h>
#include <tern.h>

int32_t ternGoProgress(void *, float);
int32_t ternGoReadAt(void *, uint64_t, void *, size_t);
void    ternGoRelease(void *);

// A handle is a number; C carries it as a pointer that nobody follows.
static void *tern_go_data(uintptr_t handle) { return (void *)handle; }

static void tern_go_reader(tern_reader *r, uintptr_t handle, uint64_t length) {
	tern_reader_init(r, sizeof *r);
	r->user_data = (void *)handle;
	r->length = length;
	r->read_at = ternGoReadAt;
	r->close = ternGoRelease;
}

static void tern_go_progress(tern_progress_fn *fn, void **data, uintptr_t handle) {
	*fn = ternGoProgress;
	*data = (void *)handle;
}
*/
import "C"

import (
	"context"
	"io"
	"runtime"
	"runtime/cgo"
	"unsafe"
)

// LoadFlags choose how a model is loaded.
type LoadFlags uint32

// How a model is loaded.
const (
	VocabOnly LoadFlags = C.TERN_MODEL_VOCAB_ONLY // tokens only, no weights
	NoMmap    LoadFlags = C.TERN_MODEL_NO_MMAP    // read instead of mapped
	Mlock     LoadFlags = C.TERN_MODEL_MLOCK      // kept in memory
	Verify    LoadFlags = C.TERN_MODEL_VERIFY     // every byte is checked
)

// LoadOptions say how a model is loaded. The zero value is what most programs want.
type LoadOptions struct {
	Flags LoadFlags
	// Kernels names a kernel table of SystemInfo. Empty: the best that passes its check.
	Kernels string
	// Progress hears how far the load is, from 0 to 1, and stops it by returning false.
	Progress func(fraction float32) bool
}

// Model is what was learnt: immutable, for any number of goroutines, contexts and sessions.
type Model struct{ h *handle[*C.tern_model] }

// Load opens a model file, GGUF or a packed one.
func Load(path string) (*Model, error) { return LoadWith(context.Background(), path, LoadOptions{}) }

// LoadWith is Load with options; the end of ctx stops it.
func LoadWith(ctx context.Context, path string, o LoadOptions) (*Model, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	return load(ctx, o, func(p *C.tern_model_params, m **C.tern_model, e **C.tern_error) C.tern_status {
		return C.tern_model_load_from_file(name, p, m, e)
	})
}

// LoadBytes opens a model from memory; what is needed of data is copied.
func LoadBytes(ctx context.Context, data []byte, o LoadOptions) (*Model, error) {
	return load(ctx, o, func(p *C.tern_model_params, m **C.tern_model, e **C.tern_error) C.tern_status {
		defer runtime.KeepAlive(data)
		return C.tern_model_load_from_memory(unsafe.Pointer(first(data)), C.size_t(len(data)), nil, nil, p, m, e)
	})
}

// LoadReader opens a model from the first size bytes of r: an archive member, an embedded or decrypted file. r is read by
// one goroutine at a time, and let go when the model has what it needs.
func LoadReader(ctx context.Context, r io.ReaderAt, size int64, o LoadOptions) (*Model, error) {
	return load(ctx, o, func(p *C.tern_model_params, m **C.tern_model, e **C.tern_error) C.tern_status {
		var reader C.tern_reader
		C.tern_go_reader(&reader, C.uintptr_t(cgo.NewHandle(r)), C.uint64_t(size)) // close, which is always called, deletes the handle
		return C.tern_model_load_from_reader(&reader, p, m, e)
	})
}

func load(ctx context.Context, o LoadOptions,
	open func(*C.tern_model_params, **C.tern_model, **C.tern_error) C.tern_status) (*Model, error) {
	token, err := watch(ctx)
	if err != nil {
		return nil, err
	}
	defer token.free()
	var p C.tern_model_params
	C.tern_model_params_init(&p, C.sizeof_tern_model_params)
	p.flags, p.cancel = C.uint32_t(o.Flags), token.p
	p.kernels, p.kernels_len = copied(o.Kernels)
	defer C.free(unsafe.Pointer(p.kernels))
	if o.Progress != nil {
		data := cgo.NewHandle(o.Progress)
		defer data.Delete()
		C.tern_go_progress(&p.progress, &p.progress_user_data, C.uintptr_t(data))
	}
	var made *C.tern_model
	var e *C.tern_error
	status := open(&p, &made, &e)
	if err := checkWith(status, e); err != nil {
		return nil, because(ctx, err)
	}
	m := &Model{}
	m.h = newHandle(m, made, func(p *C.tern_model) { C.tern_model_free(p) })
	return m, nil
}

// Close gives the model back. Contexts and sessions on it go on: they hold references of their own.
func (m *Model) Close() error {
	m.h.close()
	return nil
}

// Convert writes the packed form of the model, which maps in milliseconds and opens on every CPU.
func (m *Model) Convert(ctx context.Context, path string) error {
	token, err := watch(ctx)
	if err != nil {
		return err
	}
	defer token.free()
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	var p C.tern_convert_params
	C.tern_convert_params_init(&p, C.sizeof_tern_convert_params)
	p.cancel = token.p
	return because(ctx, m.h.callWith(func(m *C.tern_model, e **C.tern_error) C.tern_status {
		return C.tern_model_convert(m, name, &p, e)
	}))
}

// ModelInfo holds a model's sizes and special tokens; -1 is a token the model lacks.
type ModelInfo struct {
	Vocab, TrainContext, Embedding, Layers, Heads, KVHeads int
	Params, WeightBytes, FileBytes                         uint64
	BOS, EOS, EOT                                          Token
}

// Info gives the model's sizes and special tokens.
func (m *Model) Info() (ModelInfo, error) {
	var i C.tern_model_info
	C.tern_model_info_init(&i, C.sizeof_tern_model_info)
	err := m.h.call(func(m *C.tern_model) C.tern_status { return C.tern_model_get_info(m, &i) })
	return ModelInfo{
		Vocab: int(i.n_vocab), TrainContext: int(i.n_ctx_train), Embedding: int(i.n_embd), Layers: int(i.n_layer),
		Heads: int(i.n_head), KVHeads: int(i.n_head_kv), Params: uint64(i.n_params), WeightBytes: uint64(i.weight_bytes),
		FileBytes: uint64(i.file_bytes), BOS: Token(i.bos), EOS: Token(i.eos), EOT: Token(i.eot),
	}, err
}

// Meta gives one value of the file's metadata as text; errors.Is(err, NotFound) if it has no such key.
func (m *Model) Meta(key string) (string, error) {
	k, n := text(key)
	value, err := m.h.bytes(func(m *C.tern_model, buf unsafe.Pointer, c C.size_t, out *C.size_t) C.tern_status {
		return C.tern_model_meta_get(m, k, n, (*C.char)(buf), c, out)
	})
	runtime.KeepAlive(key)
	return string(value), err
}

// ChatTemplate gives the Jinja template in use; errors.Is(err, NotFound) if the model has none.
func (m *Model) ChatTemplate() (string, error) {
	value, err := m.h.bytes(func(m *C.tern_model, buf unsafe.Pointer, c C.size_t, out *C.size_t) C.tern_status {
		return C.tern_model_chat_template(m, (*C.char)(buf), c, out)
	})
	return string(value), err
}
