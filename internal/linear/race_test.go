//go:build race

package linear

const racing = true
