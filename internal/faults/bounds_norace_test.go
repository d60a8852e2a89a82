//go:build !race

package faults_test

const boundsRace = false
