package accel

// preparedAnswers holds what every hit on an entry writes alike.
type preparedAnswers struct{}
