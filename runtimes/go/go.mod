module sutazai

go 1.19
