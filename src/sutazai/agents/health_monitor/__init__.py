"""Why it exists: "is it healthy?" needs one answer, causes before echoes, made of what the fleet measured."""
