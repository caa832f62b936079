package tern

/*
#include <stdlib.h>
#include <tern.h>

void ternGoLog(void *, int32_t, char *, size_t);

static void tern_go_log(uintptr_t handle, int32_t min_level) {
	tern_log_set((tern_log_fn)ternGoLog, (void *)handle, min_level);
}
*/
import "C"

import (
	"fmt"
	"runtime/cgo"
	"sync"
	"unsafe"
)

func init() {
	if err := checkVersion(uint32(C.tern_version_number())); err != nil {
		panic(err) // a program that runs against another ABI must not get as far as a call
	}
}

// checkVersion compares the library with the header of the build. While the major is 0 a minor may break.
func checkVersion(number uint32) error {
	major, minor := number/1000000, number/1000%1000
	same := major == C.TERN_VERSION_MAJOR
	if major == 0 {
		same = same && minor == C.TERN_VERSION_MINOR
	} else {
		same = same && minor >= C.TERN_VERSION_MINOR
	}
	if !same {
		return fmt.Errorf("tern: built for library %d.%d, found %d.%d", C.TERN_VERSION_MAJOR, C.TERN_VERSION_MINOR, major, minor)
	}
	return nil
}

// Version is that of the loaded library.
func Version() string { return C.GoString(C.tern_version_string()) }

// SystemInfo describes CPU, kernel tables and build, as JSON.
func SystemInfo() (string, error) {
	h := &handle[int]{free: func(int) {}} // of nothing: for its way of asking twice
	info, err := h.bytes(func(_ int, buf unsafe.Pointer, n C.size_t, out *C.size_t) C.tern_status {
		return C.tern_system_info((*C.char)(buf), n, out)
	})
	return string(info), err
}

// SelfTest checks every kernel table this CPU can run against the scalar one.
func SelfTest() error {
	var e *C.tern_error
	status := C.tern_self_test(&e)
	return checkWith(status, e)
}

// LogLevel says how much a log line matters.
type LogLevel int32

// How much a log line matters.
const (
	LogDebug LogLevel = C.TERN_LOG_DEBUG
	LogInfo  LogLevel = C.TERN_LOG_INFO
	LogWarn  LogLevel = C.TERN_LOG_WARN
	LogError LogLevel = C.TERN_LOG_ERROR
)

var logging struct {
	sync.Mutex
	data cgo.Handle
}

// SetLog calls f for each log line of the library, on any goroutine; nil turns it off. The library is silent unless it is set.
// Not to be called from within f.
func SetLog(f func(level LogLevel, line string), least LogLevel) {
	logging.Lock()
	defer logging.Unlock()
	C.tern_log_set(nil, nil, 0) // waits for calls that run, so that the old handle can go
	if logging.data != 0 {
		logging.data.Delete()
		logging.data = 0
	}
	if f != nil {
		logging.data = cgo.NewHandle(f)
		C.tern_go_log(C.uintptr_t(logging.data), C.int32_t(least))
	}
}

// ThreadPool is a set of threads that contexts share.
type ThreadPool struct{ h *handle[*C.tern_threadpool] }

// NewThreadPool starts threads; 0 is the number of performance cores.
func NewThreadPool(threads int) (*ThreadPool, error) {
	var p C.tern_threadpool_params
	C.tern_threadpool_params_init(&p, C.sizeof_tern_threadpool_params)
	p.n_threads = C.uint32_t(threads)
	var made *C.tern_threadpool
	if err := check(C.tern_threadpool_new(&p, &made)); err != nil {
		return nil, err
	}
	t := &ThreadPool{}
	t.h = newHandle(t, made, func(p *C.tern_threadpool) { C.tern_threadpool_free(p) })
	return t, nil
}

// Close gives the pool back. Its threads end with the last context on it.
func (t *ThreadPool) Close() error {
	t.h.close()
	return nil
}

// MemoryPlan says in bytes what a model file and a context on it will take.
type MemoryPlan struct{ WeightsMapped, WeightsHeap, KV, Scratch uint64 }

// PlanMemory reads the header of a model file only.
func PlanMemory(path string, o ContextOptions) (MemoryPlan, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	params, done, err := o.c()
	if err != nil {
		return MemoryPlan{}, err
	}
	defer done()
	var plan C.tern_memory_plan
	C.tern_memory_plan_init(&plan, C.sizeof_tern_memory_plan)
	var e *C.tern_error
	status := C.tern_memory_plan_for_file(name, nil, params, &plan, &e)
	err = checkWith(status, e)
	return MemoryPlan{uint64(plan.weights_mapped), uint64(plan.weights_heap), uint64(plan.kv), uint64(plan.scratch)}, err
}
