module ganvas/example

go 1.19
