//go:build race

package faults_test

// The race detector keeps several times the program's memory of its own.
const boundsRace = true
