module example.com/tern/examples

go 1.24

require example.com/tern/go v0.0.0

replace example.com/tern/go => ../../bindings/go
