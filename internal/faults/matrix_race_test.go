//go:build race

package faults_test

const matrixRace = true
