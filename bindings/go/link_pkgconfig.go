//go:build !tern_flags

package tern

// #cgo pkg-config: tern
import "C"
