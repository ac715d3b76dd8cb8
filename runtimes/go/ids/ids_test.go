package ids

import (
	"encoding/json"
	"os"
	"testing"
)

// A child of a task has one name in all languages: the vectors are made by Python's half.
func TestChildTaskIDIsThatOfTheOtherLanguages(t *testing.T) {
	data, err := os.ReadFile("../../child_ids.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Parent, Site, ID string
		Index            int
	}
	if err = json.Unmarshal(data, &vectors); err != nil || len(vectors) < 5 {
		t.Fatal(len(vectors), err)
	}
	for _, vector := range vectors {
		if got := ChildTaskID(vector.Parent, vector.Site, vector.Index); got != vector.ID {
			t.Errorf("%q %q %d: %s, not %s", vector.Parent, vector.Site, vector.Index, got, vector.ID)
		}
	}
}
