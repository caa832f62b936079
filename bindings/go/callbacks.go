package tern

// #include <tern.h>
import "C"

import (
	"io"
	"runtime/cgo"
	"unsafe"
)

// The C library calls these; user_data is a cgo.Handle. What they run must not panic through C frames: a panic of a progress or
// log function ends the program with its trace, as Go does for any exported function.

//export ternGoProgress
func ternGoProgress(userData unsafe.Pointer, fraction C.float) C.int32_t {
	if cgo.Handle(userData).Value().(func(float32) bool)(float32(fraction)) {
		return 1
	}
	return 0
}

//export ternGoReadAt
func ternGoReadAt(userData unsafe.Pointer, offset C.uint64_t, dst unsafe.Pointer, n C.size_t) C.int32_t {
	source := cgo.Handle(userData).Value().(io.ReaderAt)
	buffer := unsafe.Slice((*byte)(dst), int(n))
	if read, _ := source.ReadAt(buffer, int64(offset)); read == len(buffer) {
		return 1
	}
	return 0
}

//export ternGoRelease
func ternGoRelease(userData unsafe.Pointer) { cgo.Handle(userData).Delete() }

//export ternGoLog
func ternGoLog(userData unsafe.Pointer, level C.int32_t, utf8 *C.char, n C.size_t) {
	cgo.Handle(userData).Value().(func(LogLevel, string))(LogLevel(level), C.GoStringN(utf8, C.int(n)))
}
