//go:build tern_flags

package tern

// #cgo LDFLAGS: -ltern
// #cgo linux LDFLAGS: -lm -ldl -lpthread
// #cgo windows LDFLAGS: -lws2_32 -lntdll -luserenv -lbcrypt
import "C"
