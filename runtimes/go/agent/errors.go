package agent

import (
	"errors"
	"fmt"
)

// Error is a failure with a stable code; a skill returns one when the usual "skill-failed, try again" does not fit.
type Error struct {
	Code      string // stable, for programs
	Message   string // for people: what is wrong and what to do
	Retryable bool   // whether the same task may succeed later
}

func (e *Error) Error() string { return e.Message }

// NonRetryable says that trying again cannot help: the task fails at once.
func NonRetryable(format string, values ...any) error {
	return &Error{"non-retryable", fmt.Sprintf(format, values...), false}
}

// Unavailable says that something does not answer now: the task is tried again by its policy.
func Unavailable(format string, values ...any) error {
	return &Error{"unavailable", fmt.Sprintf(format, values...), true}
}

// InvalidInput says that the input is wrong in a way that its schema cannot say.
func InvalidInput(format string, values ...any) error {
	return &Error{"invalid-input", fmt.Sprintf(format, values...), false}
}

func invalidOutput(format string, values ...any) error {
	return &Error{"invalid-output", fmt.Sprintf(format, values...), false}
}

func notFound(format string, values ...any) error {
	return &Error{"not-found", fmt.Sprintf(format, values...), false}
}

// ErrStopped says that the turn is to be given up: cancelled, past its deadline, or its lease is lost. What a skill
// returns then is dropped.
var ErrStopped = errors.New("the turn was stopped")
