package ids

import (
	"encoding/json"
	"os"
	"testing"
)

// A child of a task has one name in all languages: the vectors are those of the conformance suite.
func TestChildTaskIDIsThatOfTheOtherLanguages(t *testing.T) {
	data, err := os.ReadFile("../../../tests/conformance/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Children []struct {
			Parent, Site, ID string
			Index            int
		} `json:"child_task_id"`
	}
	if err = json.Unmarshal(data, &vectors); err != nil || len(vectors.Children) < 5 {
		t.Fatal(len(vectors.Children), err)
	}
	for _, vector := range vectors.Children {
		if got := ChildTaskID(vector.Parent, vector.Site, vector.Index); got != vector.ID {
			t.Errorf("%q %q %d: %s, not %s", vector.Parent, vector.Site, vector.Index, got, vector.ID)
		}
	}
}
